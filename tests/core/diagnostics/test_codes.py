"""Every error code has exactly one explanation."""

import re
from pathlib import Path

import audiozen_core
from audiozen_core.diagnostics import codes, config_codes
from audiozen_core.diagnostics.codes import explanations

CORE = Path(audiozen_core.__file__).parent


def codes_in_the_source() -> dict[str, list[str]]:
    """Returns each code with the names of the source files that contain the code."""
    found: dict[str, list[str]] = {}
    for root in (CORE, CORE.parent / "audiozen_plugins"):
        for file in root.rglob("*.py"):
            for code in re.findall(r'"(AZ\d+)"', file.read_text(encoding="utf-8")):
                found.setdefault(code, []).append(file.name)
    return found


def test_source_and_page_contain_the_same_codes():
    found = codes_in_the_source()
    assert {"AZ000", "AZ101", "AZ203", "AZ402"} <= found.keys()
    assert found.keys() == explanations().keys()


def test_every_explanation_has_a_title_and_a_text():
    for code, text in explanations().items():
        title, _, body = text.partition("\n\n")
        assert re.fullmatch(rf"{code}: [^.]+", title), title
        assert body
        assert all(len(line) <= 120 for line in body.splitlines())


def test_page_lists_each_code_once_in_order():
    page = Path(codes.__file__).with_name("errors.md").read_text(encoding="utf-8")
    listed = re.findall(r"^## (AZ\d{3}): ", page, flags=re.MULTILINE)
    assert listed == sorted(set(listed))
    assert len(listed) == page.count("\n## ")


def test_codes_of_common_errors_do_not_change():
    for name, code in {
        "UNKNOWN_SECTION": "AZ101",
        "UNKNOWN_KEY": "AZ102",
        "MISSING_SECTION": "AZ103",
        "NOT_TOML": "AZ126",
        "UNKNOWN_OVERRIDE": "AZ131",
        "UNKNOWN_ARGUMENT": "AZ140",
        "MISSING_ARGUMENT": "AZ141",
        "WRONG_ARGUMENT_TYPE": "AZ144",
    }.items():
        assert getattr(config_codes, name) == code
