"""Which status changes a person may make by hand. Everything else follows from the worker's liveness."""

from typing import Final

from app.errors import InvalidRequest
from app.model import NodeStatus

_MAY_ENTER: Final = {NodeStatus.INSTALLING, NodeStatus.ONLINE, NodeStatus.OFFLINE}


def check_by_hand(present: NodeStatus, wanted: NodeStatus, *, is_registered: bool) -> None:
    """Raise InvalidRequest, naming both statuses, for a transition that is not a person's to make.

    A person may make `installing|online|offline → maintenance`, and `maintenance → online` where the
    node registered once; the present status is always allowed.
    """
    leaves = present is NodeStatus.MAINTENANCE and wanted is NodeStatus.ONLINE
    if wanted is present or (wanted is NodeStatus.MAINTENANCE and present in _MAY_ENTER) or (leaves and is_registered):
        return
    problem = f"a node can't go from {present.value} to {wanted.value} by hand"
    raise InvalidRequest.of("status", f"{problem} before it has registered once" if leaves else problem)
