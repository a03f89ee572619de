"""docs/security.md: what is written by hand stays, and the tables below its mark are those that the tests go through."""

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

from app.rest.headers import HEADERS, OVER_TLS
from tests.security import surface

FILE: Final = Path(__file__).parents[2] / "docs" / "security.md"
MARK: Final = "<!-- Below this line `make security` writes. -->"


class Section(NamedTuple):
    """A table under a heading, with a sentence about it."""

    title: str
    about: str
    columns: Sequence[str]
    rows: Iterable[Sequence[object]]

    def __str__(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        table = "\n".join(f"| {' | '.join(_cell(each) for each in line)} |" for line in lines)
        return f"### {self.title}\n\n{self.about}\n\n{table}\n"


def sections() -> list[Section]:
    """Every table that is the same however long one tries."""
    return [
        Section(
            "Who may read what",
            "The status of a GET. To be on this machine means to come from it directly, not by way of a proxy.",
            ("path", "from elsewhere", "from this machine", "with a portal token", "why"),
            surface.PATHS,
        ),
        Section(
            "What every answer says to browsers",
            "Strict-Transport-Security where people reach the service by https. A handler may say something else: of "
            "Cache-Control the daemon's file does.",
            ("header", "value"),
            [(name, f"`{value}`") for name, value in (HEADERS | OVER_TLS).items()],
        ),
    ]


def page(by_hand: str, today: date, tables: Iterable[Section]) -> str:
    """The page anew. Raises ValueError where what is written by hand has no mark."""
    before, mark, _ = by_hand.partition(MARK)
    if not mark:
        raise ValueError(f"{FILE} has no line {MARK!r}: what is below it would be written, and there is none")
    return f"{before}{mark}\n\n## Tried on {today:%Y-%m-%d}\n\n" + "\n".join(map(str, tables))


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
