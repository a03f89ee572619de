"""The table of status changes that a person may make."""

from itertools import product

import pytest

from app.domain.status import check_by_hand
from app.errors import InvalidRequest
from app.model import NodeStatus

PENDING, INSTALLING, ONLINE, OFFLINE, MAINTENANCE = NodeStatus
ALLOWED = {(INSTALLING, MAINTENANCE), (ONLINE, MAINTENANCE), (OFFLINE, MAINTENANCE), (MAINTENANCE, ONLINE)}


@pytest.mark.parametrize(("present", "wanted"), list(product(NodeStatus, NodeStatus)))
def test_each_transition_is_allowed_or_names_both_statuses(present: NodeStatus, wanted: NodeStatus) -> None:
    """All 25."""
    if present is wanted or (present, wanted) in ALLOWED:
        check_by_hand(present, wanted, is_registered=True)
        return
    with pytest.raises(InvalidRequest) as caught:
        check_by_hand(present, wanted, is_registered=True)
    assert present.value in caught.value.message
    assert wanted.value in caught.value.message


def test_a_node_that_never_registered_does_not_become_online() -> None:
    """It may enter maintenance, but not leave it."""
    check_by_hand(INSTALLING, MAINTENANCE, is_registered=False)
    with pytest.raises(InvalidRequest, match="registered"):
        check_by_hand(MAINTENANCE, ONLINE, is_registered=False)
