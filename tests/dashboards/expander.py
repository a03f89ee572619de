"""What Grafana makes of a query's text before PostgreSQL sees it, rule for rule as in its sources.

First the browser puts in variables, `$__interval` and `$__interval_ms` among them; names it does not know stay. Then
the data source on the server takes comments out, puts in the interval again (alert rules have no browser) and the
range in seconds, and expands macros, whose arguments end at the first closing parenthesis.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from tests.dashboards.intervals import IntervalError, format_in_browser, format_on_server, go_float, parse_interval


class ExpansionError(Exception):
    """Grafana, or this stand-in for it, refuses the query; the sentence says why."""


class TimeRange(NamedTuple):
    """What the time picker shows: both ends are included."""

    start: datetime
    end: datetime


class All(NamedTuple):
    """All is chosen of a variable that has a custom value for it: that is put in as it stands, never formatted."""

    text: str


Value: TypeAlias = "str | list[str] | All"
"""What is chosen of a variable: one value, several, or All."""


class Fill(NamedTuple):
    """What stands in for buckets without a row; `value` is a number, `previous` or None."""

    interval: timedelta
    value: float | str | None


@dataclass(frozen=True)
class Expanded:
    """The text that PostgreSQL is sent; `fill` applies to time series alone."""

    sql: str
    fill: Fill | None = None


def expand(
    sql: str,
    variables: Mapping[str, Value],
    time_range: TimeRange,
    interval: timedelta,
    *,
    timescaledb: bool = True,
) -> Expanded:
    """A panel's query, as its dashboard sends it. Raises ExpansionError."""
    return on_server(in_browser(sql, variables, time_range, interval), time_range, interval, timescaledb=timescaledb)


# $name, [[name:format]] and ${name.field:format}
_VARIABLE: Final = re.compile(
    r"\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}", flags=re.ASCII
)


def in_browser(sql: str, variables: Mapping[str, Value], time_range: TimeRange, interval: timedelta) -> str:
    """Variables as text. Raises ExpansionError for a format whose text differs between versions of Grafana."""
    own = {
        "__interval": format_in_browser(interval),
        "__interval_ms": str(round(interval / timedelta(milliseconds=1))),
        "__from": str(_milliseconds(time_range.start)),
        "__to": str(_milliseconds(time_range.end)),
    }

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[4]
        form = match[3] or match[6]
        if name in own:
            return own[name]
        if name not in variables:
            return match[0]
        chosen = variables[name]
        if isinstance(chosen, All):
            return chosen.text
        if form != "sqlstring":
            raise ExpansionError(f"{match[0]} is put in differently by each version of Grafana: ${{{name}:sqlstring}}.")
        return sqlstring(chosen)

    return _VARIABLE.sub(value, sql)


def sqlstring(chosen: str | list[str]) -> str:
    """Each value between quotes, quotes within doubled, with commas between; nothing chosen is no text at all."""
    values = [chosen] if isinstance(chosen, str) else chosen
    return ",".join("'" + value.replace("'", "''") + "'" for value in values)


_QUOTED_OR_COMMENT: Final = re.compile(
    r"""
      (?P<dollars>\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$) .*? (?:(?P=dollars)|\Z)
    | '(?:[^']|'')*(?:'|\Z)
    | "(?:[^"]|"")*(?:"|\Z)
    | (?P<comment> /\*.*?(?:\*/|\Z) | --[^\n]* )
    """,
    flags=re.VERBOSE | re.DOTALL | re.ASCII,
)


def without_comments(sql: str) -> str:
    """The text without `--` and `/* */`; within quotes they are no comments, and the end of a line stays."""
    return _QUOTED_OR_COMMENT.sub(lambda match: "" if match["comment"] is not None else match[0], sql)


MACRO: Final = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)", flags=re.ASCII)


def on_server(sql: str, time_range: TimeRange, interval: timedelta, *, timescaledb: bool = True) -> Expanded:
    """Macros as SQL; `timescaledb` is the data source's switch. Raises ExpansionError."""
    plain = without_comments(sql)
    for name, text in (
        ("$__interval_ms", str(interval // timedelta(milliseconds=1))),
        ("$__interval", format_on_server(interval)),
        ("$__unixEpochFrom()", str(_seconds(time_range.start))),
        ("$__unixEpochTo()", str(_seconds(time_range.end))),
    ):
        plain = plain.replace(name, text)
    macros = _Macros(time_range, timescaledb=timescaledb)

    def expanded(match: re.Match[str]) -> str:
        # Grafana looks behind the first call with this text, whichever it expands.
        behind = plain[plain.index(match[0]) + len(match[0]) :]
        name = "__timeGroupAlias" if match[1] == "__timeGroup" and behind.startswith(",") else match[1]
        return macros.expand(name, [argument.strip(" ") for argument in match[2].split(",")])

    return Expanded(MACRO.sub(expanded, plain), macros.fill)


class _Macros:
    """What each macro stands for; remembers what is to be filled in."""

    def __init__(self, time_range: TimeRange, *, timescaledb: bool) -> None:
        self.fill: Fill | None = None
        self._start, self._end = time_range
        self._timescaledb = timescaledb

    def expand(self, name: str, arguments: list[str]) -> str:
        start, end, first = self._start, self._end, arguments[0]
        simple: dict[str, Callable[[], str]] = {
            "__time": lambda: f'{first} AS "time"',
            "__timeEpoch": lambda: f'extract(epoch from {first}) as "time"',
            "__timeFilter": lambda: f"{first} BETWEEN '{_rfc3339(start)}' AND '{_rfc3339(end)}'",
            "__timeFrom": lambda: f"'{_rfc3339(start)}'",
            "__timeTo": lambda: f"'{_rfc3339(end)}'",
            "__timeGroup": lambda: self._time_group(name, arguments),
            "__timeGroupAlias": lambda: f'{self._time_group(name, arguments)} AS "time"',
            "__unixEpochFilter": lambda: f"{first} >= {_seconds(start)} AND {first} <= {_seconds(end)}",
            "__unixEpochNanoFilter": lambda: f"{first} >= {_nanoseconds(start)} AND {first} <= {_nanoseconds(end)}",
            "__unixEpochNanoFrom": lambda: str(_nanoseconds(start)),
            "__unixEpochNanoTo": lambda: str(_nanoseconds(end)),
            "__unixEpochGroup": lambda: self._epoch_group(name, arguments),
            "__unixEpochGroupAlias": lambda: f'{self._epoch_group(name, arguments)} AS "time"',
        }
        if name not in simple:
            raise ExpansionError(f'unknown macro "{name}"')
        return simple[name]()

    def _time_group(self, name: str, arguments: list[str]) -> str:
        column, seconds = self._group(name, arguments)
        if self._timescaledb:
            return f"time_bucket('{seconds:.3f}s',{column})"
        return f"floor(extract(epoch from {column})/{go_float(seconds)})*{go_float(seconds)}"

    def _epoch_group(self, name: str, arguments: list[str]) -> str:
        column, seconds = self._group(name, arguments)
        return f"floor(({column})/{go_float(seconds)})*{go_float(seconds)}"

    def _group(self, name: str, arguments: list[str]) -> tuple[str, float]:
        if len(arguments) < 2:
            raise ExpansionError(f"macro {name} needs time column and interval and optional fill value")
        try:
            interval = parse_interval(arguments[1].strip("'"), datetime.now(UTC))
        except IntervalError as error:
            raise ExpansionError(f"error parsing interval {arguments[1]}: {error}") from None
        if interval <= timedelta():
            raise ExpansionError(f"interval must be positive, got {arguments[1]}")
        if len(arguments) == 3:
            self.fill = Fill(interval, _fill_value(arguments[2]))
        return arguments[0], interval.total_seconds()


def _fill_value(text: str) -> float | str | None:
    if text in ("NULL", "previous"):
        return None if text == "NULL" else text
    try:
        return float(text)
    except ValueError:
        raise ExpansionError(f"error parsing fill value {text}") from None


def _rfc3339(moment: datetime) -> str:
    """As Go's RFC3339Nano has it: UTC, and no zeros at the end of a fraction."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "Z"


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _seconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(seconds=1)


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
