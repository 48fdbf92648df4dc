from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference_data() -> Path:
    root = os.environ.get("AUDIOZEN_REFERENCE_DATA", "")
    if not root or not Path(root, "sdnn").is_dir():
        pytest.skip("AUDIOZEN_REFERENCE_DATA does not name the folder with the reference data")
    return Path(root)
