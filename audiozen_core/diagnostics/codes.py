"""The codes of findings and errors.

A code never changes its meaning, and a retired code is never reused. `errors.md` in this folder explains every code.
The codes of findings about a configuration are in `config_codes`. A code that only one exception class uses is defined
in that class.
"""

from __future__ import annotations

import re
from pathlib import Path

# Components

MISSING_EXTRA = "AZ201"
MALFORMED_PATH = "AZ202"
UNKNOWN_NAME = "AZ203"
CLASH = "AZ204"
NO_MODULE = "AZ205"
NO_ATTRIBUTE = "AZ206"
IMPORT_FAILED = "AZ207"
IS_MODULE = "AZ208"
UNKNOWN_DISTRIBUTION = "AZ209"

# Plugins

IMPORT_TAKES_TOO_LONG = "AZ220"
IMPORT_ENDS_PROCESS = "AZ221"
OTHER_VERSION = "AZ222"
UNKNOWN_GROUP = "AZ223"
BAD_METADATA = "AZ224"
IMPORTS_NOT_STARTED = "AZ225"
UNMET_REQUIREMENT = "AZ226"
UNREACHABLE_NAME = "AZ227"
IMPORT_CHANGES = "AZ228"

# Running

HOOK = "AZ600"


def explanations() -> dict[str, str]:
    """Returns the section of `errors.md` about each code, title and text, in Markdown."""
    page = Path(__file__).with_name("errors.md").read_text(encoding="utf-8")
    sections = re.split(r"^## (?=AZ\d{3}:)", page, flags=re.MULTILINE)[1:]
    return {section[:5]: section.strip() for section in sections}
