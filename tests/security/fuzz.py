"""`make fuzz`: the long form. Everything that takes input is fed for AIWM_FUZZ_SECONDS in all, and the totals printed.

The same as the tests do in a few seconds: the whole OpenAPI document against a running service, mutated frames against the
session alone and against real sockets, and frames that are guided by coverage. It exits with 1 where anything is found.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, cast

from app.clock import SystemClock
from app.domain.auth import Tokens
from app.model import CallerRole, Owner
from app.storage.database import Database
from tests.databases import SERVERS, Server
from tests.fakes import FakeClock
from tests.integration.gateway import ORG, SECRET, Gateway, running_gateway
from tests.security.coverage_guided import fuzz_guided
from tests.security.rest_fuzz import fuzz_rest
from tests.security.session_fuzz import fuzz_session
from tests.security.socket_fuzz import fuzz_socket
from tests.security.totals import Totals

SECONDS: Final = "AIWM_FUZZ_SECONDS"
_EXAMPLES: Final = 1000
"""Of each operation and phase of the OpenAPI document, at most."""


class _Defects(logging.Handler):
    """What the service logs as an error: to it, no input should be one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


def fuzz(seconds: int, *, progress: Callable[[str], None] = print) -> list[Totals]:
    """All of it: half of the time for REST, the rest for frames. Blocks."""
    with ExitStack() as stack:
        server = stack.enter_context(SERVERS["postgresql"]())
        totals = asyncio.run(_against_a_service(server, seconds, progress))
    totals.append(fuzz_session(examples=_EXAMPLES, seconds=seconds / 6))
    progress(str(totals[-1]))
    totals.append(fuzz_guided(seconds=seconds // 6))
    progress(str(totals[-1]))
    return totals


async def _against_a_service(server: Server, seconds: int, progress: Callable[[str], None]) -> list[Totals]:
    defects = _Defects()
    logging.getLogger().addHandler(defects)
    try:
        async with server.fresh(migrated=True) as url:
            database = Database(url, pool_size=8)
            async with running_gateway(database, cast(FakeClock, SystemClock())) as gateway:
                totals = [await rest(gateway, seconds=seconds // 2, examples=_EXAMPLES)]
                progress(str(totals[-1]))
                totals.append(await fuzz_socket(gateway, examples=_EXAMPLES // 20, seconds=seconds / 6))
                progress(str(totals[-1]))
            await database.close()
    finally:
        logging.getLogger().removeHandler(defects)
    totals.append(Totals("errors in the service's log", found=defects.found))
    progress(str(totals[-1]))
    return totals


async def rest(gateway: Gateway, *, seconds: int, examples: int) -> Totals:
    """The OpenAPI document as an admin, whom no guard stops."""
    token = Tokens((SECRET,), SystemClock()).issue_portal("fuzz", CallerRole.ADMIN, Owner(org_id=ORG), 86_400)
    return await asyncio.to_thread(fuzz_rest, gateway.settings.url, token, seconds=seconds, examples=examples)


def main() -> None:
    """Print the totals; exit with 1 where something was found."""
    totals = fuzz(int(os.environ.get(SECONDS, "600")))
    sys.exit(any(each.found for each in totals))


if __name__ == "__main__":
    main()
