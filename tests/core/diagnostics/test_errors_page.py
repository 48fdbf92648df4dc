"""The page of error codes is made of the table of codes."""

from pathlib import Path

import audiozen_core.diagnostics.config_codes  # noqa: F401 - adds its codes to the table
from audiozen_core.diagnostics.codes import TABLE

PAGE = Path(__file__).resolve().parents[3] / "docs" / "errors.md"
HEAD = """# Errors

Each kind of error and warning has a code that never changes its meaning. `audiozen explain AZ101` shows what stands
here. This page is made by `python -m tests.core.diagnostics.test_errors_page`.
"""


def page() -> str:
    """The page."""
    parts = [f"## {found.code}: {found.title}\n\n{found.explanation}\n" for _, found in sorted(TABLE.items())]
    return "\n".join([HEAD, *parts])


def test_the_page_is_up_to_date():
    """If this fails: python -m tests.core.diagnostics.test_errors_page."""
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
