"""What systemd wants to hear from a service of `Type=notify`: sd_notify(3), by the socket it names."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from typing import Final

_UNWATCHED_SECONDS: Final = 3600.0
_log = logging.getLogger(__name__)


class Systemd:
    """Talks to systemd where it started this process, and to nobody elsewhere."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        self.watchdog_seconds = _watchdog_seconds(environ)
        """After so long a silence systemd restarts this process; None where it does not watch."""

    def ready(self) -> None:
        """The daemon runs; whether the controller answers is another matter."""
        self._say("READY=1")

    def stopping(self) -> None:
        """The daemon is about to end."""
        self._say("STOPPING=1")

    def status(self, sentence: str) -> None:
        """What `systemctl status` shows."""
        self._say(f"STATUS={sentence}")

    async def keep_alive(self) -> None:
        """Show the watchdog that the event loop turns, until cancelled."""
        while True:
            if self.watchdog_seconds is not None:
                self._say("WATCHDOG=1")
            await asyncio.sleep((self.watchdog_seconds or _UNWATCHED_SECONDS) / 3)

    def _say(self, line: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
                notify.setblocking(False)
                notify.sendto(line.encode(), self._address)
        except OSError as error:
            _log.debug("systemd does not listen: %s", error)


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    microseconds = environ.get("WATCHDOG_USEC", "")
    meant_for = environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or int(microseconds) == 0 or meant_for != str(os.getpid()):
        return None
    return int(microseconds) / 1_000_000
