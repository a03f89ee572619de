"""GPUs as they were recorded: a CSV of nvidia-smi or dcgm columns in the place of NVML.

    nvidia-smi --query-gpu=timestamp,uuid,name,utilization.gpu,memory.used,… --format=csv -l 60 > trace.csv

A row a GPU. Rows that follow each other without a GPU coming twice, and within half a second, are one moment.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any, Callable, Final

from app.protocol.wire import MAX_GPUS
from app.worker.presence import Presence
from app.worker.trace_columns import IDENTITY, Row, parse_row, recognised

_ONE_MOMENT_SECONDS: Final = 0.5
_STATUS: Final = ("utilization", "temperature")
_FACTS: Final = ("model", "memoryTotal", "memoryFree", "utilization", "temperature", "index", "pciBusId", "serial")
_ONLY_FACTS: Final = ("index", "pciBusId", "serial")


class Trace:
    """Plays a trace over and over.

    Without a speed each metrics sample is the next recorded moment, so that none is left out and the
    controller's interval decides how fast it goes: recorded every 60 s and sampled every second, it is
    60 times as fast. With a speed it goes by the clock, and a sample is the latest moment that has passed.
    """

    def __init__(
        self, moments: list[list[Row]], speed: float | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        if speed is not None and not 0 < speed < float("inf"):
            raise ValueError(f"a trace cannot be played at {speed:g} times its speed: give a number above 0.")
        if not moments:
            raise ValueError("the trace has no rows: record a while longer.")
        self._moments = moments
        self._speed = speed
        self._monotonic = monotonic
        self._began: float | None = None
        self._place = -1
        self._presence = Presence()
        self._events: list[dict[str, Any]] = []
        self._xids: dict[str, int] = {}
        if speed is not None and any(row.seconds is None for moment in moments for row in moment):
            raise ValueError("a trace without a timestamp in each row cannot be played at a speed.")

    @classmethod
    def read(cls, path: Path, speed: float | None = None) -> Trace:
        """From a file. Raises OSError, or ValueError that names the line."""
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, skipinitialspace=True)
            header = [name.strip() for name in next(lines, [])]
            columns = recognised(header)
            if not any(columns.get(place) in IDENTITY for place in columns):
                raise ValueError(f"{path} has no column uuid or index: it is no recording of nvidia-smi or dcgm.")
            rows = []
            for values in lines:
                if not any(values):
                    continue
                try:
                    rows.append(parse_row(columns, header, values))
                except ValueError as error:
                    raise ValueError(f"line {lines.line_num} of {path}: {error}") from None
        return cls(_moments(rows), speed)

    def facts(self) -> list[dict[str, Any]]:
        """Every GPU of the recording, as it is when it first comes."""
        first: dict[str, Row] = {}
        for moment in self._moments:
            for row in moment:
                if not row.lost:
                    first.setdefault(row.device_id, row)
        return [_picked(row, _FACTS) for row in first.values()][:MAX_GPUS]

    def status(self) -> list[dict[str, Any]]:
        """`gpuStatus` of the present moment."""
        return [_picked(row, _STATUS) for row in self._present()]

    def metrics(self) -> list[dict[str, Any]]:
        """`gpus` of the next moment."""
        if self._speed is None:
            self._enter(self._place + 1)
        return [
            {"deviceId": row.device_id, **{name: it for name, it in row.fields.items() if name not in _ONLY_FACTS}}
            for row in self._present()
        ]

    def events(self) -> list[dict[str, Any]]:
        """XIDs, and GPUs that went or came back, up to the present moment."""
        self._present()
        xids, self._events = self._events, []
        return [*xids, *self._presence.take()]

    def close(self) -> None:
        """Nothing to let go."""

    def _present(self) -> list[Row]:
        if self._speed is not None:
            self._enter(self._place_by_clock(self._speed))
        elif self._place < 0:
            self._look_at(0)
        moment = self._moments[max(self._place, 0) % len(self._moments)]
        return [row for row in moment if not row.lost][:MAX_GPUS]

    def _place_by_clock(self, speed: float) -> int:
        """The place in an endless row of repetitions."""
        now = self._monotonic()
        if self._began is None:
            self._began = now
        times = [moment[0].seconds or 0.0 for moment in self._moments]
        length = times[-1] - times[0] + (times[-1] - times[-2] if len(times) > 1 else 1.0)
        rounds, rest = divmod((now - self._began) * speed, max(length, 0.001))
        passed = sum(1 for it in times if it - times[0] <= rest)
        return int(rounds) * len(times) + max(passed, 1) - 1

    def _enter(self, place: int) -> None:
        """Go there, past what happened on the way; of a whole round, once is enough."""
        for passed in range(max(self._place + 1, place - len(self._moments) + 1), place + 1):
            self._look_at(passed % len(self._moments))
        self._place = max(place, self._place)

    def _look_at(self, place: int) -> None:
        """What happened at a moment."""
        rows = {row.device_id: row for row in self._moments[place]}
        for device_id, row in rows.items():
            if not row.lost:
                self._presence.found(device_id)
            if row.xid is None:
                continue
            # dcgm repeats the last one until the driver is loaded anew.
            if row.xid not in {0, self._xids.get(device_id)}:
                self._events.append({"kind": "xid", "deviceId": device_id, "detail": {"xid": row.xid}})
            self._xids[device_id] = row.xid
        for device_id in self._presence.known:
            if device_id not in rows or rows[device_id].lost:
                self._presence.missed(device_id, "it is missing in the trace")


def _moments(rows: list[Row]) -> list[list[Row]]:
    moments: list[list[Row]] = []
    for row in rows:
        begun = moments[-1] if moments else None
        if begun is None or any(it.device_id == row.device_id for it in begun) or _apart(begun[0], row):
            moments.append([row])
        else:
            begun.append(row)
    return moments


def _apart(first: Row, other: Row) -> bool:
    return None not in (first.seconds, other.seconds) and (
        abs((other.seconds or 0.0) - (first.seconds or 0.0)) > _ONE_MOMENT_SECONDS
    )


def _picked(row: Row, names: tuple[str, ...]) -> dict[str, Any]:
    return {"deviceId": row.device_id, **{name: row.fields[name] for name in names if name in row.fields}}
