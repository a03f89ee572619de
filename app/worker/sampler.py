"""What the daemon asks of a machine: its facts, and how it is now."""

from __future__ import annotations

from typing import Any, Dict, List, Protocol


class Sampler(Protocol):
    """Measures a machine. Each answer is plain JSON in the document's shapes; what is not known is left out.

    The daemon calls these one at a time, in a thread of its own: they may take a while, and where one
    never returns the daemon goes on without it.
    """

    def facts(self) -> Dict[str, Any]:
        """`data` of NODE_REGISTER."""
        ...

    def heartbeat(self) -> Dict[str, Any]:
        """`data` of TELEMETRY_HEARTBEAT, without its timestamp."""
        ...

    def metrics(self) -> Dict[str, Any]:
        """`data` of TELEMETRY_METRICS without its timestamp, with the fields of gpuDetails (`wire.DETAIL_FIELDS`)."""
        ...

    def events(self) -> List[Dict[str, Any]]:
        """What happened to GPUs since the last call: `kind`, `deviceId`, `detail`.

        Kinds: `xid`, `gpu_vanished`, `gpu_returned`, `ecc_uncorrected`.
        """
        ...
