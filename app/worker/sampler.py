"""What the daemon asks of a machine: its facts, and how it is now. `app.worker.machine` answers."""

from __future__ import annotations

from typing import Any, Protocol


class Sampler(Protocol):
    """Measures a machine. Each answer is plain JSON in the document's shapes; what is not known is left out.

    The daemon calls these one at a time, in a thread of its own: they may take a while, and where one
    never returns the daemon goes on without it.
    """

    def facts(self) -> dict[str, Any]:
        """`data` of NODE_REGISTER."""
        ...

    def heartbeat(self) -> dict[str, Any]:
        """`data` of TELEMETRY_HEARTBEAT, without its timestamp."""
        ...

    def metrics(self) -> dict[str, Any]:
        """`data` of TELEMETRY_METRICS without its timestamp, with the fields of gpuDetails (`wire.DETAIL_FIELDS`)."""
        ...

    def events(self) -> list[dict[str, Any]]:
        """What happened to GPUs since the last call: `kind`, `deviceId`, `detail`.

        Kinds: `xid`, `gpu_vanished`, `gpu_returned`, `ecc_uncorrected`.
        """
        ...
