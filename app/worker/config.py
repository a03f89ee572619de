"""Where the daemon finds what it must know: the environment first, then files in /etc/hydra-node.

/etc/hydra-node/config.env    HYDRA_CONTROLLER_ENDPOINT, HYDRA_NODE_ID: lines of NAME=value, quoted as in a shell
/etc/hydra-node/token         the node's token, mode 0600
/var/lib/hydra-node/<node>/   the spool, and the token as it was renewed
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from app.protocol import wire
from app.worker.tokens import claims

CONFIG_DIR: Final = Path("/etc/hydra-node")
STATE_DIR: Final = Path("/var/lib/hydra-node")
SPOOL_MEGABYTES: Final = 256
_SCHEMES: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
# It becomes the name of a folder.
_NODE_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")


class ConfigError(Exception):
    """One sentence for the person who set it up; the command prints it and exits with 1."""


@dataclass(frozen=True)
class Config:
    """What one daemon is told. `url` is the whole address of the WebSocket."""

    url: str
    node_id: str
    token_file: Path
    state_dir: Path
    """This node's own folder."""
    spool_bytes: int
    token: str | None = field(default=None, repr=False)
    """From the environment; the file's is read by `Tokens`."""


def read(environ: Mapping[str, str], config_dir: Path = CONFIG_DIR) -> Config:
    """The configuration. Raises ConfigError with a sentence that names what is missing or wrong."""
    known = {**_file(config_dir / "config.env"), **environ}
    endpoint = known.get("HYDRA_CONTROLLER_ENDPOINT", "").strip()
    if not endpoint:
        raise ConfigError(
            f"HYDRA_CONTROLLER_ENDPOINT is not set, neither in the environment nor in {config_dir / 'config.env'}: "
            "give it the controller's address, as in ws://controller:3305."
        )
    url = _url(endpoint)
    token = known.get("HYDRA_NODE_TOKEN", "").strip() or None
    token_file = config_dir / "token"
    node_id = known.get("HYDRA_NODE_ID", "").strip() or _subject(token, token_file)
    if not _NODE_ID.fullmatch(node_id):
        raise ConfigError(
            f"HYDRA_NODE_ID is {node_id!r}, which is no node's id: it is the `_id` of the node in the portal."
        )
    state = known.get("HYDRA_STATE_DIR") or known.get("STATE_DIRECTORY", "").split(":")[0] or str(STATE_DIR)
    return Config(url, node_id, token_file, Path(state) / node_id, _spool_bytes(known), token)


def _file(path: Path) -> dict[str, str]:
    """NAME=value of each line; none where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    found = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = line.strip().partition("=")
        if not name or name.startswith("#"):
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            words = ["", ""]
        if not equals or len(words) > 1:
            raise ConfigError(f"Line {number} of {path} is not NAME=value: quote a value that has blanks in it.")
        found[name] = "".join(words)
    return found


def _url(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    try:
        well_formed = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or parts.query or parts.fragment or "@" in endpoint:
        # Never a password in a log.
        shown = "has a user in it" if "@" in endpoint else f"is {endpoint!r}"
        raise ConfigError(
            f"HYDRA_CONTROLLER_ENDPOINT {shown}, which is no address of a controller: "
            "it looks like ws://controller:3305 or wss://controller.example/base/path."
        )
    path = parts.path.rstrip("/")
    if not path.endswith(wire.PATH):
        path += wire.PATH
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path, "", ""))


def _subject(token: str | None, token_file: Path) -> str:
    """The node that a token is of, where nothing else says which node this is."""
    if token is None:
        try:
            token = token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"There is no token: HYDRA_NODE_TOKEN is not set, and {token_file} cannot be read ({error}). "
                "Run the installation script that the portal gave for this node."
            ) from None
    return claims(token).subject or ""


def _spool_bytes(known: Mapping[str, str]) -> int:
    value = known.get("HYDRA_SPOOL_MEGABYTES", "").strip() or str(SPOOL_MEGABYTES)
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 1_000_000:
        raise ConfigError(f"HYDRA_SPOOL_MEGABYTES is {value!r}: give it a whole number from 1 to 1000000.")
    return int(value) * 2**20
