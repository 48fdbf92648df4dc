r"""A file whose name is not UTF-8 is tested and enhanced like others; its results and messages have escapes."""

from __future__ import annotations

import os
import shutil

import pytest

NAME = b"caf\xe9.wav"
ESCAPED = "caf\\xe9"


@pytest.fixture
def odd_project(project):
    for kind in ("noisy", "clean"):
        folder = os.fsencode(project / "data" / kind)
        try:
            os.rename(folder + b"/clip_1.wav", folder + b"/" + NAME)  # noqa: PTH104
        except OSError:
            pytest.skip("this file system takes only names in UTF-8")
    return project


def test_such_files_are_trained_on_tested_and_enhanced(odd_project, audiozen):
    done = audiozen("run", "tiny.toml", "--mode", "train", "test", "predict")

    assert done.code == 0, done.err
    written = [path.name for path in (odd_project / "exp").rglob("*.wav")]
    assert {f"{ESCAPED}{kind}.wav" for kind in ("", "_noisy", "_enhanced", "_clean")} <= set(written)
    assert len(written) == 4 * 4
    tables = [path.read_text(encoding="utf-8") for path in (odd_project / "exp").rglob("*.csv")]
    assert any(ESCAPED in table for table in tables)


def test_such_a_file_that_is_unreadable_is_named_and_can_be_skipped(odd_project, audiozen):
    noisy = os.fsencode(odd_project / "data" / "noisy")
    assert audiozen("run", "tiny.toml").code == 0
    shutil.copy(noisy + b"/" + NAME, noisy + b"/also_" + NAME)
    with open(noisy + b"/" + NAME, "wb") as file:  # noqa: PTH123
        file.write(b"This is not audio. " * 50)

    failed = audiozen("run", "tiny.toml", "--mode", "predict")
    skipped = audiozen("run", "tiny.toml", "--mode", "predict", "--set", "+trainer.args.on_bad_data=skip")

    assert failed.code == 2
    assert f"{ESCAPED}.wav` can't be read as audio" in failed.err
    assert skipped.code == 0, skipped.err
    assert "xe9.wav" in skipped.err
    written = [path.name for path in (odd_project / "exp").rglob("*.wav")]
    assert f"also_{ESCAPED}.wav" in written
    assert f"{ESCAPED}.wav" not in written
    logs = [path.read_text(encoding="utf-8") for path in (odd_project / "exp").rglob("*.log")]
    assert any("can't be read as audio" in log for log in logs)
