"""Prometheus' text exposition format, version 0.0.4: a small writer that knows nothing of nodes.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

MEDIA_TYPE: Final = "text/plain; version=0.0.4"

_IN_LABEL: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_IN_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Family(NamedTuple):
    """A metric's name, with what it means."""

    name: str
    help: str
    type: Literal["gauge", "counter"] = "gauge"


def labels(**values: str | None) -> str:
    """Labels as they are written between the braces; one without a value is left out, as Prometheus reads it."""
    pairs = [f'{name}="{value.translate(_IN_LABEL)}"' for name, value in values.items() if value is not None]
    return ",".join(pairs)


def lines(family: Family, samples: Iterable[tuple[str, float | None]]) -> Iterator[str]:
    """The lines of one metric, each with its newline: what it is, then a sample for each of its labels.

    A missing value has no line; without any value nothing is written.
    """
    is_first = True
    for written, value in samples:
        if value is None:
            continue
        if is_first:
            yield f"# HELP {family.name} {family.help.translate(_IN_HELP)}\n# TYPE {family.name} {family.type}\n"
            is_first = False
        # Integers in full: Prometheus reads them as floats, people as bytes.
        yield f"{family.name}{{{written}}} {value!r}\n"
