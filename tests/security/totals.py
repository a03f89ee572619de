"""What a fuzzer did and found."""

from collections import Counter
from typing import Final

import msgspec

SHOWN: Final = 20


class Totals(msgspec.Struct):
    """Cases by their kind, and what was found wrong: sentences, empty where all is well."""

    what: str
    cases: Counter[str] = msgspec.field(default_factory=Counter)
    found: list[str] = msgspec.field(default_factory=list)

    def count(self, kind: str) -> None:
        """One more of this kind."""
        self.cases[kind] += 1

    def __str__(self) -> str:
        rows = [
            f"{self.what}: {self.cases.total():,}",
            *(f"  {kind}: {number:,}" for kind, number in sorted(self.cases.items())),
        ]
        rows.append(f"  found wrong: {len(self.found):,}")
        rows += [f"  - {each}" for each in self.found[:SHOWN]]
        return "\n".join(rows)
