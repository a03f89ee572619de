"""The daemon as one file, as `make daemon` packs it and the wheel carries it."""

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from app import VERSION

_FOLDER: Final = Path(__file__).parent
NAME: Final = f"aiwm-node-daemon-{VERSION}.pyz"


class DaemonFile(msgspec.Struct, frozen=True):
    """The file, in memory whole: what is served is what was hashed, whatever happens to the disk."""

    content: bytes
    sha256: str
    """In hexadecimal."""


def read(folder: Path = _FOLDER) -> DaemonFile | None:
    """The file of this version; None in a source tree where nobody made it."""
    try:
        content = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return None
    return DaemonFile(content, hashlib.sha256(content).hexdigest())
