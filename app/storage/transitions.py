"""A status that moves: the four columns of `node_state` that change together, said once."""

from app.model import NodeStatus


def moves(condition: str, status: NodeStatus, reason: str, at: str) -> str:
    """SET clauses of an UPDATE of `node_state s`: where the condition holds, the status is new since `at`.

    All four are text of this program's own, never of a request.
    """
    return (
        f"status = CASE WHEN {condition} THEN '{status}' ELSE s.status END, "
        f"status_reason = CASE WHEN {condition} THEN '{reason}' ELSE s.status_reason END, "
        f"status_changed_at = CASE WHEN {condition} THEN {at} ELSE s.status_changed_at END, "
        f"status_changed_by = CASE WHEN {condition} THEN NULL ELSE s.status_changed_by END"
    )
