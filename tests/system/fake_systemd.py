"""As much of systemd as the installation script speaks with: one unit, of `Type=notify`.

    FAKE_SYSTEMD=<the root's run folder>  python fake_systemd.py <what systemctl is told>

`restart` starts what the unit's ExecStart says and waits until it is ready, as systemctl does. A keeper process of
its own listens to the service, as systemd would, and writes its status beside the socket.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

SECONDS: Final = 30.0
RUN: Final = Path(os.environ["FAKE_SYSTEMD"])
UNIT: Final = RUN.parent / "etc" / "systemd" / "system" / "hydra-node.service"
KEEPER, READY, STATUS, ENABLED, LOG = (RUN / name for name in ("keeper", "ready", "status", "enabled", "journal"))
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(command: str, *words: str) -> None:
    """One call of systemctl."""
    if command == "enable":
        ENABLED.touch()
    elif command == "disable":
        ENABLED.unlink(missing_ok=True)
        stop()
    elif command == "restart":
        stop()
        start()
    elif command == "show" and "--property=StatusText" in words:
        print("StatusText=" + (STATUS.read_text() if STATUS.exists() else ""))
    elif command == "keep":
        keep()
    elif command != "daemon-reload":
        sys.exit(f"unknown command {command}")


def start() -> None:
    """Start a keeper and wait until the service is ready."""
    keeper = subprocess.Popen([sys.executable, __file__, "keep"], start_new_session=True, stdout=subprocess.DEVNULL)
    KEEPER.write_text(str(keeper.pid))
    until = time.monotonic() + SECONDS
    while not READY.exists():
        if keeper.poll() is not None or time.monotonic() > until:
            sys.exit("Job for hydra-node.service failed.")
        time.sleep(0.05)


def stop() -> None:
    """Stop the service and its keeper, if they run."""
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(KEEPER.read_text()), signal.SIGTERM)
        until = time.monotonic() + SECONDS
        while KEEPER.exists() and time.monotonic() < until:
            time.sleep(0.05)
    for file in (KEEPER, READY, STATUS):
        file.unlink(missing_ok=True)


def keep() -> None:
    """Run the service with nothing of this environment, and hear what it notifies."""
    service = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line)
    address = str(RUN / "notify")
    Path(address).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, LOG.open("ab") as log:
        notify.bind(address)
        environment = {"PATH": PATH, "NOTIFY_SOCKET": address}
        daemon = subprocess.Popen(shlex.split(service["ExecStart"]), env=environment, stdout=log, stderr=log)
        # Python begins its next call of recv only after this has returned, or raised.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            notify.settimeout(0.2)
            while daemon.poll() is None:
                with suppress(TimeoutError):
                    note(notify.recv(4096).decode())
        finally:
            daemon.terminate()
            daemon.wait(SECONDS)
            Path(address).unlink()
            KEEPER.unlink(missing_ok=True)


def note(said: str) -> None:
    """Remember what the service says of itself."""
    if said == "READY=1":
        READY.touch()
    elif said.startswith("STATUS="):
        STATUS.write_text(said.removeprefix("STATUS="))


if __name__ == "__main__":
    main(*sys.argv[1:])
