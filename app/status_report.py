"""The status of the database, for people and for programs."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Final

import msgspec

from app.clock import timestamp
from app.domain.maintenance import PASS_SECONDS
from app.settings import Settings
from app.storage.database import masked
from app.storage.status import DatabaseStatus

_UNITS: Final = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
_LOOP: Final = f"The running service rolls up, makes room and drops what is too old, every {PASS_SECONDS:g} s."


def as_json(settings: Settings, url: str, status: DatabaseStatus) -> str:
    """One object; `dataDir` is null unless the database is the embedded one."""
    place = {"url": masked(url), "dataDir": str(settings.data_dir.resolve()) if settings.embedded else None}
    found = msgspec.to_builtins(status, builtin_types=(datetime,))
    return json.dumps(place | found | {"maintenanceEverySeconds": int(PASS_SECONDS)}, default=timestamp, indent=2)


def as_text(settings: Settings, url: str, status: DatabaseStatus) -> str:
    """Aligned tables."""
    has_chunks = status.engine == "timescaledb"
    engine = f"TimescaleDB {status.timescaledb} ({status.edition}) on " if has_chunks else ""
    place = f"embedded, in {settings.data_dir.resolve()}" if settings.embedded else masked(url)
    is_ours = status.revision == status.head
    schema = status.revision if is_ours else f"{status.revision}; this program's is {status.head}"
    jobs = [
        (
            *(job.what, job.table, _moment(job.next_start) if job.is_scheduled else "held back"),
            *(_moment(job.last_success), str(job.failures)),
        )
        for job in status.jobs
    ]
    return "\n".join(
        [
            f"Database  {place}",
            f"Engine    {engine}PostgreSQL {status.postgresql}",
            f"Schema    {schema}",
            "",
            *_aligned(
                (
                    *("TABLE", "CHUNKS" if has_chunks else "PARTITIONS", "SIZE", "IN ROWS"),
                    *("COMPRESSED FROM", "TO", "OLDEST SAMPLE", "KEPT FOR"),
                ),
                (
                    (
                        *(table.name, str(table.parts), _size(table.bytes), _size(table.row_bytes)),
                        *(_size(table.bytes_before_compression), _size(table.bytes_after_compression)),
                        *(_moment(table.oldest), _span(table.kept_for_seconds) or "ever"),
                    )
                    for table in status.tables
                ),
            ),
            "",
            *_aligned(
                ("ROLLUP", "ROLLED UP UNTIL", "LAG"),
                (
                    (rollup.name, _moment(rollup.rolled_until), _span(rollup.lag_seconds) or "–")
                    for rollup in status.rollups
                ),
            ),
            *([] if status.touched is None else [f"Notes of late metrics that wait: {status.touched}"]),
            "",
            *(_aligned(("JOB", "TABLE", "NEXT START", "LAST SUCCESS", "FAILURES"), jobs) if jobs else [_LOOP]),
        ]
    )


def _aligned(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = list(chain([head], rows))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def _moment(moment: datetime | None) -> str:
    return "–" if moment is None else timestamp(moment)


def _size(count: int | None) -> str:
    if count is None:
        return "–"
    size, units = float(count), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while size >= 1024 and (larger := next(units, None)):
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _span(seconds: int | None) -> str | None:
    """In its two largest units."""
    if seconds is None:
        return None
    parts: list[str] = []
    for unit, length in _UNITS.items():
        count, seconds = divmod(seconds, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
