"""Installation scripts as files. A token stands in each, so nobody else may read them."""

import os
import re
from pathlib import Path
from typing import Final

from app.errors import StartupError

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME: Final = 80


def folder(path: Path) -> Path:
    """The folder, made for its owner alone where it is not there. Raises StartupError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"{path} cannot be made: {error.strerror}.") from None
    return path


def file_of(into: Path, name: str, node_id: str) -> Path:
    """Where a node's script belongs: named for people, and by its `_id` unlike any other."""
    return into / f"{_UNSAFE.sub('_', name).lstrip('.')[:_LONGEST_NAME] or 'node'}-{node_id}.sh"


def write(path: Path, script: str) -> None:
    """Write it whole or not at all, mode 0600. Raises StartupError."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(script)
        unfinished.replace(path)
    except OSError as error:
        raise StartupError(f"The script {path} cannot be written: {error.strerror}.") from None
