"""docs/security.md says what is tried, and nothing else."""

from datetime import date

import pytest

from tests.security.page import FILE, MARK, Section, page, sections


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.title)
def test_the_page_has_the_tables_that_are_tried(section: Section) -> None:
    """`make security` was said since one of them changed."""
    assert str(section) in FILE.read_text()


def test_what_is_written_by_hand_stays() -> None:
    """Down to the mark; a page without one is left alone."""
    table = Section("Doors", "All of them.", ("door", "shut"), [("a|b", "yes")])
    written = page(f"By hand.\n{MARK}\nold", date(2026, 11, 26), [table])
    assert written == (
        f"By hand.\n{MARK}\n\n## Tried on 2026-11-26\n\n"
        "### Doors\n\nAll of them.\n\n| door | shut |\n| --- | --- |\n| a\\|b | yes |\n"
    )
    with pytest.raises(ValueError, match="has no line"):
        page("By hand.", date(2026, 11, 26), [table])
