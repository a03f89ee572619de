"""Pack the daemon of GPU machines into one file: `make daemon`.

    python deploy/worker/build.py UV [FOLDER]

The file is a zip that any Python from 3.9 on runs once it is unpacked:

    __main__.py        finds what is compiled for this machine, and starts app.worker
    app/               the daemon and what it knows of the protocol
    websockets/ …      what it needs in Python alone
    lib/<machine>/     what it needs compiled, for x86_64 and for aarch64
    licenses/          of everything that is in it

The same sources and the same lock make the same bytes: names are sorted, times fixed, nothing is compressed,
since every zlib does that a little differently.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "app" / "install"
LOCK: Final = ROOT / "requirements-worker.lock"
NAME: Final = "aiwm-node-daemon-{version}.pyz"
MACHINES: Final = ("x86_64", "aarch64")
# glibc 2.17: Ubuntu 20.04 and RHEL 8 are younger.
_PLATFORM: Final = "{machine}-manylinux2014"
_PYTHON: Final = "3.9"
_SOURCES: Final = (
    "app/__init__.py",
    "app/repeats.py",
    "app/retry_after.py",
    "app/protocol/__init__.py",
    "app/protocol/wire.py",
    "app/worker/*.py",
)
_FOR_ALL_PYTHONS: Final = "*.abi3.so"
_BEGINNING: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o100644

_MAIN: Final = '''\
"""Start the daemon with what is compiled for this machine."""

import platform
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent
if not _ROOT.is_dir():
    sys.exit(
        "What is compiled cannot be loaded from a zip. Unpack it first: "
        "python3 -m zipfile -e {name} DIR && python3 DIR version".format(name=_ROOT.name)
    )
_COMPILED = _ROOT / "lib" / platform.machine()
if not _COMPILED.is_dir():
    served = ", ".join(sorted(folder.name for folder in _COMPILED.parent.iterdir()))
    sys.exit("This machine is {0}; the daemon is made for {1}.".format(platform.machine(), served))
sys.path.insert(1, str(_COMPILED))

from app.worker.command import main  # noqa: E402

main()
'''


def main() -> None:
    """Write the file, and remove those of other versions."""
    uv, *folders = sys.argv[1:]
    folder = Path(folders[0]) if folders else FOLDER
    with TemporaryDirectory() as scratch:
        entries = {"__main__.py": _MAIN.encode()}
        entries |= {name: (ROOT / name).read_bytes() for name in _sources()}
        entries["licenses/aiwm-node-telemetry/LICENSE"] = (ROOT / "LICENSE").read_bytes()
        for machine in MACHINES:
            entries |= _dependencies(uv, machine, Path(scratch) / machine)
    for old in folder.glob(NAME.format(version="*")):
        old.unlink()
    _pack(folder / NAME.format(version=_version()), entries)


def _version() -> str:
    sys.path.insert(0, str(ROOT))
    from app import VERSION  # noqa: PLC0415 - the checkout's, wherever this is run from

    return VERSION


def _sources() -> Iterator[str]:
    for pattern in _SOURCES:
        for path in ROOT.glob(pattern):
            yield path.relative_to(ROOT).as_posix()


def _dependencies(uv: str, machine: str, folder: Path) -> dict[str, bytes]:
    """What is locked, as it is on such a machine: names in the zip, and contents."""
    command = [uv, "pip", "install", "--quiet", "--target", str(folder), "--python", sys.executable]
    command += ["--python-version", _PYTHON, "--python-platform", _PLATFORM.format(machine=machine)]
    subprocess.run([*command, "--only-binary", ":all:", "--require-hashes", "-r", str(LOCK)], check=True)
    compiled = {path.relative_to(folder).parts[0] for path in folder.rglob(_FOR_ALL_PYTHONS)}
    entries: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and (place := _place(name)):
            prefix = f"lib/{machine}/" if name.parts[0] in compiled else ""
            entries[prefix + place] = path.read_bytes()
    return entries


def _place(name: Path) -> str | None:
    """Where a file of a wheel stands in the zip; None where the daemon does without it."""
    package = name.parts[0]
    if package.endswith(".dist-info"):
        # Some wheels bring no licence's text, and name it in their metadata.
        is_licence = "LICENSE" in name.name.upper() or name.name == "METADATA"
        return f"licenses/{package.removesuffix('.dist-info')}/{name.name}" if is_licence else None
    if len(name.parts) == 1:
        return str(name) if name.name == "pynvml.py" else None
    # websockets has a part that is compiled for one Python, and does without it.
    return name.as_posix() if name.suffix == ".py" or name.match(_FOR_ALL_PYTHONS) else None


def _pack(file: Path, entries: dict[str, bytes]) -> None:
    new = file.with_suffix(".new")
    with ZipFile(new, "w", ZIP_STORED) as archive:
        for name in sorted(entries):
            info = ZipInfo(name, _BEGINNING)
            info.create_system = 3
            info.external_attr = _MODE << 16
            archive.writestr(info, entries[name])
    new.replace(file)


if __name__ == "__main__":
    main()
