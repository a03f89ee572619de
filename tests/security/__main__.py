"""`make security`: try every defence, and write what was tried into docs/security.md; nothing where one did not hold."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.security.fuzz import SECONDS, fuzz
from tests.security.page import FILE, fuzzed, page, sections

TESTS: Final = Path(__file__).parents[1]
TRIALS: Final = [
    TESTS / "security",
    *(TESTS / "integration" / f"test_{name}.py" for name in ("surface", "tls", "audit", "analysts", "doors")),
]


def main() -> None:
    """Exit with a sentence where a defence did not hold."""
    # A process of its own: pytest rewrites modules that nobody has imported before.
    if subprocess.run([sys.executable, "-m", "pytest", *map(str, TRIALS), "-q", "-n", "2"], check=False).returncode:
        sys.exit(f"A defence did not hold, as it says above: {FILE} stays as it was.")
    seconds = int(os.environ.get(SECONDS, "600"))
    totals = fuzz(seconds)
    if any(each.found for each in totals):
        sys.exit(f"Fuzzing found something, as it says above: {FILE} stays as it was.")
    FILE.write_text(page(FILE.read_text(), datetime.now(UTC).date(), [*sections(), fuzzed(totals, seconds)]))
    print(f"Every defence held: {FILE} is written.")


if __name__ == "__main__":
    main()
