"""The session alone, without sockets: whatever frame comes, it answers by its protocol and lets nothing through."""

import json
from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import Any, Final

import msgspec
from hypothesis import HealthCheck, Phase, given, seed, settings

from app.protocol.session import CloseCode, Session, Step
from tests.fakes import FakeClock
from tests.security.mutations import frames
from tests.security.totals import Totals
from tests.unit.test_session import CONTROLLER, NODE

ANSWERS: Final = {"ERROR", "TELEMETRY_ACK"}
_AT_ONCE: Final = 500
_INT64: Final = 2**63


def fuzz_session(*, examples: int, seconds: float = 0) -> Totals:
    """So many frames, and on and on until so long has passed."""
    totals = Totals("frames to the session")
    over = monotonic() + seconds
    for round_ in count():
        run(lambda frame: totals.count(check(frame)), min(examples, _AT_ONCE) if round_ else examples, round_)
        if monotonic() >= over:
            return totals
    raise AssertionError


def run(check_one: Callable[[str | bytes], Any], examples: int, number: int) -> None:
    """Hypothesis' own way of running a property, without pytest; the same number gives the same frames."""
    unhurried = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    seed(number)(unhurried(given(frames())(check_one)))()


def check(frame: str | bytes) -> str:
    """One frame to a session of a registered node, to one that never registered, and before there is a token.

    Returns what came of it. Raises AssertionError where it is not as the protocol says.
    """
    new, never, registered = (Session(CONTROLLER, FakeClock()) for _ in range(3))
    never.admit(NODE, is_registered=False)
    registered.admit(NODE, is_registered=True)
    _check_step(new.receive(frame), {"CONNECTION_ACK"})
    _check_step(never.receive(frame), ANSWERS)
    step = registered.receive(frame)
    _check_step(step, ANSWERS)
    if step.event is None:
        return "refused" if step.reply is not None and b'"ERROR"' in step.reply else "rejected"
    return type(step.event).__name__.lower()


def _check_step(step: Step, answers: set[str]) -> None:
    if step.reply is not None:
        assert json.loads(step.reply)["type"] in answers
    if step.close is not None:
        assert step.close.code in {4401, CloseCode.POLICY_VIOLATION}
        assert len(step.close.reason.encode()) <= 123
    if step.event is not None:
        _check_storable(msgspec.to_builtins(step.event))


def _check_storable(event: Any) -> None:
    """What PostgreSQL refuses is refused before: NUL, halves of characters, numbers beyond a bigint."""
    waiting = [event]
    while waiting:
        match waiting.pop():
            case str() as text:
                assert "\0" not in text
                text.encode()
            case bool() | None:
                pass
            case int() as number:
                assert -_INT64 <= number < _INT64
            case float() as number:
                assert abs(number) < float("inf")
            case dict() as parts:
                waiting += [*parts, *parts.values()]
            case list() | tuple() as parts:
                waiting += parts
