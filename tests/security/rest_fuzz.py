"""The whole OpenAPI document against a running service, by schemathesis: what it asks, and what it finds wrong."""

import tomllib
from pathlib import Path
from typing import Final

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder

from tests.security.totals import Totals

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
_SEED: Final = 7


def fuzz_rest(url: str, token: str, *, seconds: int, examples: int, seed: int = _SEED) -> Totals:
    """Ask for so long, or until there are so many examples of each operation and phase. Blocks: of its own thread."""
    held_to = tomllib.loads(CONFIG.read_text())
    held_to |= {"seed": seed, "max-time": seconds, "headers": {"Authorization": f"Bearer {token}"}}
    held_to["generation"] |= {"max-examples": examples}
    config = SchemathesisConfig.from_dict(held_to)
    schema = schemathesis.openapi.from_url(f"{url}/schema/openapi.json", config=config)
    totals = Totals("requests of the OpenAPI document")
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                _count(totals, event.phase.name.lower(), event.recorder)
            case events.NonFatalError():
                totals.found.append(f"{event.label}: {event.value!r}")
            case events.FatalError():
                raise event.exception
    return totals


def _count(totals: Totals, phase: str, recorder: ScenarioRecorder) -> None:
    for case_id, interaction in recorder.interactions.items():
        if interaction.response is not None:
            totals.cases[f"{phase} → {interaction.response.status_code // 100}xx"] += 1
        for check in recorder.checks.get(case_id, ()):
            if check.failure_info is not None:
                failure = check.failure_info.failure
                totals.found.append(
                    f"{recorder.label}: {failure.title}: {failure.message}\n{check.failure_info.code_sample}"
                )
