"""Frames to the session, guided by what they reach: atheris grows a corpus from the document's own frames.

A program of its own, since libFuzzer ends the process that it runs in: `python -m tests.security.coverage_guided FOLDER …`.
"""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.frames import gpu_event, heartbeat, metrics, register, token_renew
from tests.security.totals import Totals

_DONE: Final = re.compile(r"^Done (\d+) runs|stat::number_of_executed_units:\s+(\d+)", re.MULTILINE)


def fuzz_guided(*, seconds: int) -> Totals:
    """So long, in a process of its own; nothing where atheris has no wheels for this Python and machine."""
    totals = Totals("frames to the session, guided by coverage")
    if find_spec("atheris") is None:
        totals.cases["atheris has no wheel for this Python and machine; hypothesis alone"] = 0
        return totals
    with TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, make in enumerate((register, heartbeat, metrics, gpu_event, token_renew)):
            (corpus / f"{number}.json").write_text(json.dumps(make()))
        limits = (
            f"-max_total_time={seconds}",
            "-max_len=16384",
            "-rss_limit_mb=2048",
            "-timeout=10",
            "-print_final_stats=1",
        )
        command = [
            sys.executable,
            "-m",
            "tests.security.coverage_guided",
            str(corpus),
            *limits,
            f"-artifact_prefix={folder}/",
        ]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        runs = [int(done or units) for done, units in _DONE.findall(ended.stderr)]
        totals.cases["inputs"] = max(runs, default=0)
        totals.cases["inputs that reached something new"] = len(list(corpus.iterdir()))
    if ended.returncode != 0 or not runs:
        totals.found.append(ended.stderr[-4000:])
    return totals


def _main() -> None:
    import atheris  # noqa: PLC0415 – it is not there on every machine

    with atheris.instrument_imports(include=["app.protocol", "app.model", "app.quantities"]):
        from tests.security.session_fuzz import check  # noqa: PLC0415 – instrumented as it is imported

    def one(data: bytes) -> None:
        check(data.decode("utf-8", "replace"))

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    _main()
