"""The errors page of the documentation is a copy of the page that is installed with the package."""

from pathlib import Path

from audiozen_core.diagnostics import codes

INSTALLED = Path(codes.__file__).with_name("errors.md")
PAGE = Path(__file__).resolve().parents[3] / "docs" / "errors.md"


def test_errors_page_is_up_to_date():
    """If this fails: edit the installed page, then run `python -m tests.core.diagnostics.test_errors_page`."""
    assert PAGE.read_text(encoding="utf-8") == INSTALLED.read_text(encoding="utf-8")


if __name__ == "__main__":
    PAGE.write_text(INSTALLED.read_text(encoding="utf-8"), encoding="utf-8")
