"""The node's token: where it is kept, and how a renewed one takes its place."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

RENEW_AFTER: Final = 2 / 3
"""The share of its life after which a token may be renewed."""


class Claims(NamedTuple):
    """What a token says of itself, unverified: that is the controller's business. Seconds since 1970."""

    subject: str | None = None
    issued_at: int | None = None
    expires_at: int | None = None

    @property
    def renewable_at(self) -> float | None:
        """When the last third of the token's life begins; None where its life is not known."""
        if self.issued_at is None or self.expires_at is None:
            return None
        return self.issued_at + RENEW_AFTER * (self.expires_at - self.issued_at)

    @property
    def life(self) -> int:
        """Seconds from its issue to its end; 0 where that is not known."""
        return (self.expires_at or 0) - (self.issued_at or 0) if self.issued_at and self.expires_at else 0


def claims(token: str) -> Claims:
    """What a JWT's middle part says; empty for a text that is no JWT."""
    try:
        part = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        subject, issued, expires = found.get("sub"), found.get("iat"), found.get("exp")
    except (IndexError, ValueError, AttributeError, RecursionError):
        return Claims()
    return Claims(
        subject if isinstance(subject, str) else None,
        int(issued) if isinstance(issued, (int, float)) else None,
        int(expires) if isinstance(expires, (int, float)) else None,
    )


class NoToken(Exception):
    """One sentence: there is no token, and what to do."""


class Tokens:
    """The tokens of one node: the one it was installed with, and the one it was renewed to.

    The renewed one stands in the state directory, so that /etc stays read-only for the daemon. The one
    that was issued last counts: an operator's new one takes over from whatever was renewed before.
    """

    def __init__(self, installed: Path, renewed: Path, from_environment: str | None = None) -> None:
        self._installed = installed
        self._renewed = renewed
        self._from_environment = from_environment
        self._unsaved: str | None = None

    def current(self) -> str:
        """The token to connect with, read afresh. Raises NoToken."""
        found = [self._from_environment or self._read(self._installed), self._read(self._renewed), self._unsaved]
        tokens: list[str] = [token for token in found if token]
        if not tokens:
            raise NoToken(
                f"There is no token: HYDRA_NODE_TOKEN is not set, and {self._installed} is not there or empty. "
                "Run the installation script that the portal gave for this node."
            )
        return max(tokens, key=lambda token: claims(token).issued_at or 0)

    def renew(self, token: str) -> None:
        """Keep a new token in a file that is this user's alone; the old one is replaced whole or not at all.

        Raises OSError where the disk does not take it; until this process ends it counts all the same.
        """
        self._unsaved = token
        self._renewed.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes the file 0600 from the beginning.
        descriptor, name = tempfile.mkstemp(prefix=".token-", dir=str(self._renewed.parent))
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(token + "\n")
                file.flush()
                os.fsync(descriptor)
            Path(name).replace(self._renewed)
        except BaseException:
            Path(name).unlink()
            raise
        _sync_folder(self._renewed.parent)
        self._unsaved = None

    @staticmethod
    def _read(path: Path) -> str:
        try:
            return path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeError) as error:
            raise NoToken(f"{path} cannot be read: {error}. It must be readable by the daemon's user.") from None


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable."""
    descriptor = os.open(str(folder), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
