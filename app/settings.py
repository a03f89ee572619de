"""What the environment says, read once into one frozen struct.

Every variable starts with `AIWM_`; the README lists them. A malformed value is a `StartupError`
that names the variable, an unknown variable is a warning, since it is most often a misspelling.
"""

import os
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from app.errors import StartupError
from app.retention import SHORTEST, Retention
from app.trust import OWN_ALONE, Trust

SECRET_BYTES = 32
MAX_WORKERS = 64
_ADDRESS = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:]*)(?::([0-9]{0,5}))?")
_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d|w|y)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 365 * 86_400}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. Durations ending in `_ms` are milliseconds."""

    host: str = "127.0.0.1"
    port: int = 3305
    workers: int = 1
    base_path: str = ""
    public_url: str = ""
    database_url: str | None = None
    data_dir: Path = Path(".data")
    jwt_secret: tuple[str, ...] = ()
    trust: Trust = OWN_ALONE
    token: str | None = None
    heartbeat_interval_ms: int = 30_000
    metrics_interval_ms: int = 60_000
    heartbeat_timeout_ms: int = 90_000
    retention: Retention = Retention()
    ingest_buffer_bytes: int = 64 * 1024 * 1024
    query_timeout_ms: int = 30_000
    token_renewal: bool = True
    creations_per_minute: int = 600
    log_level: str = "info"
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    strangers_per_address: int = 0
    database_wait_ms: int = 60_000
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def embedded(self) -> bool:
        """Whether the service brings its own PostgreSQL."""
        return self.database_url is None

    @property
    def url(self) -> str:
        """Where people and workers reach the service, base path included, no slash at the end."""
        scheme = "https" if self.tls_cert else "http"
        return self.public_url or f"{scheme}://localhost:{self.port}{self.base_path}"

    @property
    def websocket_url(self) -> str:
        """The same for WebSocket clients: ws for http, wss for https."""
        return "ws" + self.url.removeprefix("http")

    def seat(self, number: int) -> str:
        """Where a gateway listens, and which it is of those there. Whoever has it is its only holder."""
        return f"{socket.gethostname()}:{self.host}:{self.port}" + (f"#{number}" if number else "")


def read(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from an environment, and warnings for a person to read.

    Raises StartupError for a malformed value, with a sentence that names the variable.
    """
    values: dict[str, Any] = {}
    warnings: list[str] = []
    for variable in sorted(name for name in environ if name.startswith("AIWM_")):
        if _injected_by_kubernetes(variable, environ[variable]):
            warnings.append(f"{variable} looks like what Kubernetes injects for a Service and is ignored.")
            continue
        name, text = _name_and_text(variable, environ[variable])
        if name not in _PARSERS:
            warnings.append(f"{variable} is not a setting of this service and is ignored: is it misspelt?")
        elif text != "":
            try:
                values[name] = _PARSERS[name](text)
            except ValueError as error:
                # The value itself is not repeated: it may be a secret, or a URL with a password in it.
                raise StartupError(f"{variable} {error}.") from None
    kept = {field: values.pop(name) for name, field in _RETENTIONS.items() if name in values}
    trust = Trust(**{field: values.pop(name) for name, field in _TRUST.items() if name in values})
    settings = Settings(**values, retention=Retention(**kept), trust=trust)
    _check(settings)
    return settings, warnings


def with_secret(settings: Settings, *, may_generate: bool = True) -> Settings:
    """The same settings with a signing secret: the given one, or the data directory's own.

    With an embedded database and no AIWM_JWT_SECRET a secret is generated once and kept, mode 0600.
    Raises StartupError where there is none and none may be made.
    """
    if settings.jwt_secret:
        return settings
    if not settings.embedded:
        raise StartupError(
            "AIWM_JWT_SECRET is not set: with AIWM_DATABASE_URL the service needs the secret that signs its tokens, "
            f"at least {SECRET_BYTES} bytes (for instance from `openssl rand -hex 32`)."
        )
    path = settings.data_dir / "jwt-secret"
    if not may_generate and not path.exists():
        raise StartupError(
            f"There is no portal token in AIWM_TOKEN, and no service has left a secret in {settings.data_dir.resolve()} "
            "to sign one with: set AIWM_TOKEN, or start where the service was started."
        )
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return msgspec.structs.replace(settings, jwt_secret=(_kept_secret(path),))
    except OSError as error:
        raise StartupError(
            f"The signing secret {path} cannot be read or written: {error.strerror}. "
            "Set AIWM_DATA_DIR to a directory that this user may write."
        ) from None


def _kept_secret(path: Path) -> str:
    if not path.exists():
        # Written under a name of its own and linked, so that two starts at once agree on one secret.
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()


def _name_and_text(variable: str, text: str) -> tuple[str, str]:
    """`AIWM_X_FILE` stands for `AIWM_X` where x may be secret; the file's content is the value."""
    name = variable.removeprefix("AIWM_").lower()
    target = name.removesuffix("_file")
    if target not in _SECRET or target == name:
        return name, text
    try:
        return target, Path(text).read_text().strip()
    except OSError as error:
        raise StartupError(f"{variable} names a file that cannot be read: {error.strerror}.") from None


def _injected_by_kubernetes(variable: str, value: str) -> bool:
    """A Service called `aiwm` makes Kubernetes set AIWM_PORT=tcp://…, AIWM_SERVICE_HOST and more."""
    return value.startswith(("tcp://", "udp://")) or bool(re.match(r"AIWM_(SERVICE_|PORT_\d+_)", variable))


def _check(settings: Settings) -> None:
    if settings.heartbeat_timeout_ms <= settings.heartbeat_interval_ms:
        raise StartupError(
            f"AIWM_HEARTBEAT_TIMEOUT_MS ({settings.heartbeat_timeout_ms}) must be longer than "
            f"AIWM_HEARTBEAT_INTERVAL_MS ({settings.heartbeat_interval_ms}), else every node flaps."
        )
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise StartupError("AIWM_TLS_CERT and AIWM_TLS_KEY belong together: set both or neither.")
    if settings.trust.problem is not None:
        raise StartupError(settings.trust.problem)
    for name, field in _RETENTIONS.items():
        kept, shortest = getattr(settings.retention, field), SHORTEST[field]
        if kept is not None and kept < shortest:
            raise StartupError(f"AIWM_{name.upper()} must be at least {shortest.days}d, or `forever`.")


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _base_path(text: str) -> str:
    path = "/" + text.strip("/") if text.strip("/") else ""
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path):
        raise ValueError("must be a path such as /dev/aiwm")
    return path


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        # No blank, quote, backslash, dollar or backtick: the value ends up in a shell script.
        if urlsplit(text).scheme not in schemes or not urlsplit(text).netloc or re.search(r"[\s\"'\\$`]", text):
            raise ValueError(f"must be a URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return text.rstrip("/")

    return parse


def _jwks_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError(
            "must be a URL that starts with https:// (http:// to this machine itself alone): "
            "whoever can change the answer on its way can sign tokens"
        )
    if not parts.hostname or parts.username is not None or re.search(r"\s", text):
        raise ValueError("must name a host, and neither user nor password")
    return text


def _database_url(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
        raise ValueError("must be a URL that starts with postgresql://")
    addresses = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].split(",")
    found = [_ADDRESS.fullmatch(address) for address in addresses]
    if not all(match and int(match[1] or 1) in range(1, 65_536) for match in found):
        raise ValueError(
            "must name a host and a port from 1 to 65535, as in postgresql://user:password@host:5432/database; "
            "special characters of a password are written as %40 for @"
        )
    return f"postgresql://{rest}"


def _secrets(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    if any(len(part.encode()) < SECRET_BYTES for part in found):
        raise ValueError(f"is too short: every secret in it needs at least {SECRET_BYTES} bytes")
    return found


def _retention(text: str) -> timedelta | None:
    if text == "forever":
        return None
    match = _DURATION.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise ValueError("must be a duration such as 30d or 12h, or `forever`")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _log_level(text: str) -> str:
    if text.lower() not in {"debug", "info", "warning", "error"}:
        raise ValueError("must be debug, info, warning or error")
    return text.lower()


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _origins(text: str) -> tuple[str, ...]:
    found = _words(text)
    if not all(re.fullmatch(r"\*|https?://[^/\s]+", origin) for origin in found):
        raise ValueError("must be origins such as https://portal.example, separated by commas, or `*`")
    return found


def _networks(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return tuple(str(ip_network(part)) if "/" in part else str(ip_address(part)) for part in found)
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.0/8, separated by commas") from None


_DAY_MS = 86_400_000
_RETENTIONS = {
    "retention_raw": "raw",
    "retention_heartbeats": "heartbeats",
    "retention_5m": "five_minutes",
    "retention_1h": "hour",
    "retention_1d": "day",
}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_TRUST = {f"jwt_{field}": field for field in Trust.__struct_fields__}
_SECRET = {"jwt_secret", "database_url", "token"}
_PARSERS: dict[str, Callable[[str], Any]] = {
    "host": str,
    "port": _integer(1, 65_535),
    "workers": _integer(1, MAX_WORKERS),
    "base_path": _base_path,
    "public_url": _url("http", "https"),
    "database_url": _database_url,
    "data_dir": Path,
    "jwt_secret": _secrets,
    "jwt_jwks_url": _jwks_url,
    **dict.fromkeys(("jwt_issuer", "jwt_audience", "jwt_org_claim", "jwt_role_claim"), str),
    **dict.fromkeys(("jwt_viewer_roles", "jwt_operator_roles", "jwt_admin_roles"), _words),
    "jwt_allow_hs256": _boolean,
    "token": str,
    "heartbeat_interval_ms": _integer(100, _DAY_MS),
    "metrics_interval_ms": _integer(100, _DAY_MS),
    "heartbeat_timeout_ms": _integer(200, _DAY_MS),
    **dict.fromkeys(_RETENTIONS, _retention),
    "ingest_buffer_bytes": _integer(1024 * 1024, 1024**4),
    "query_timeout_ms": _integer(10, _DAY_MS),
    "token_renewal": _boolean,
    "creations_per_minute": _integer(0, 1_000_000),
    "log_level": _log_level,
    "cors_origins": _origins,
    "trusted_proxies": _networks,
    "strangers_per_address": _integer(0, 1_000_000),
    "database_wait_ms": _integer(0, _DAY_MS),
    "tls_cert": Path,
    "tls_key": Path,
}
