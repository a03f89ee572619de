"""What all tests may ask for: a clock of their own, database servers, and the user's document."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from tests.databases import SERVERS, Server
from tests.fakes import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], Server]]:
    """The database servers, each started when it is first asked for and kept to the end."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(SERVERS[name]()))


@pytest.fixture(scope="session")
def shared_document() -> Path:
    """The user's own document, where this checkout lies beside it."""
    document = Path(__file__).parents[2] / "shared" / "spec" / "node-api.md"
    if not document.exists():
        pytest.skip(f"the user's document is not here: {document}")
    return document
