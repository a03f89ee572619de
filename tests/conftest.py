"""What all tests may ask for: a clock of their own, and the user's document."""

from pathlib import Path

import pytest

from tests.fakes import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture(scope="session")
def shared_document() -> Path:
    """The user's own document, where this checkout lies beside it."""
    document = Path(__file__).parents[2] / "shared" / "spec" / "node-api.md"
    if not document.exists():
        pytest.skip(f"the user's document is not here: {document}")
    return document
