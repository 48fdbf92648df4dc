"""Every code that a user may see is in the table, once, with an explanation."""

import re
from pathlib import Path

import pytest

import audiozen_core
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.codes import TABLE as CORE_TABLE
from audiozen_core.diagnostics.codes import define

CORE = Path(audiozen_core.__file__).parent


def codes_in_the_source():
    for root in (CORE, CORE.parent / "audiozen_plugins"):
        for file in root.rglob("*.py"):
            if file.name not in ("codes.py", "config_codes.py"):
                yield from ((code, file.name) for code in re.findall(r'"(AZ\d+)"', file.read_text(encoding="utf-8")))


def test_every_code_in_the_source_is_explained():
    found = dict(codes_in_the_source())
    assert {"AZ000", "AZ203", "AZ402"} <= found.keys()
    assert found.keys() <= config_codes.TABLE.keys()


def test_every_entry_is_complete():
    assert config_codes.TABLE is CORE_TABLE
    for code, entry in config_codes.TABLE.items():
        assert re.fullmatch(r"AZ\d{3}", code)
        assert entry.code == code
        assert entry.title
        assert not entry.title.endswith(".")
        assert entry.explanation
        assert all(len(line) <= 120 for line in entry.explanation.splitlines())


def test_codes_never_change():
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


def test_a_code_is_given_once():
    with pytest.raises(ValueError, match="AZ101 is taken by 'unknown section'"):
        define("AZ101", "another", "meaning")
