"""docs/security.md: what is written by hand stays, and the tables below its mark are those that the tests go through."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

from app.rest.headers import HEADERS, OVER_TLS
from tests.security import surface, tenancy
from tests.security.attacks import ATTACKS
from tests.security.sql_attacks import SQL_ATTACKS
from tests.security.totals import Totals

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
            "Tokens",
            "Each would be good but for one thing, and is tried at both doors: the status of REST, and what the socket says "
            "before it closes.",
            ("attack", "how", "REST", "socket"),
            [(each.name, each.how, each.rest, f"{each.code}, {each.close}") for each in ATTACKS],
        ),
        Section(
            "Organisations by REST",
            "Where one number stands it is the same whatever is asked for; of three the first is for what the caller's own "
            "organisation has, the second for another's, the third for what nobody has.",
            ("operation", *tenancy.CALLERS),
            tuple(_matrix()),
        ),
        Section(
            "Organisations by SQL",
            "What a login that is bound to one organisation tries on a connection of its own; nothing of another's came out.",
            ("attack", "statements"),
            [(each.name, len(each.script)) for each in SQL_ATTACKS],
        ),
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


def fuzzed(totals: Iterable[Totals], seconds: int) -> Section:
    """What fuzzers did in so many seconds."""
    return Section(
        "Fuzzing",
        f"`make fuzz` for {seconds:,} s in all. An answer of 5xx, a check of schemathesis that fails, an error in the service's "
        "log or a frame that ends it counts as found.",
        ("what", "cases", "of them", "found"),
        [
            (
                each.what,
                f"{each.cases.total():,}",
                ", ".join(f"{kind} {number:,}" for kind, number in sorted(each.cases.items())),
                len(each.found),
            )
            for each in totals
        ],
    )


def page(by_hand: str, today: date, tables: Iterable[Section]) -> str:
    """The page anew. Raises ValueError where what is written by hand has no mark."""
    before, mark, _ = by_hand.partition(MARK)
    if not mark:
        raise ValueError(f"{FILE} has no line {MARK!r}: what is below it would be written, and there is none")
    return f"{before}{mark}\n\n## Tried on {today:%Y-%m-%d}\n\n" + "\n".join(map(str, tables))


def _matrix() -> Iterator[Sequence[str]]:
    for operation in tenancy.OPERATIONS:
        yield operation.name, *(_statuses(tenancy.expected(operation, caller)) for caller in tenancy.CALLERS)


def _statuses(row: tenancy.Row) -> str:
    statuses = row.own, row.foreign, row.absent
    return str(row.own) if len(set(statuses)) == 1 else " / ".join(map(str, statuses))


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
