r"""File names that are not UTF-8: they are read, and results, logs and messages name them with escapes."""

from __future__ import annotations

import json
import os

from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger, log_file
from audiozen_core.storage.append import LineFile
from audiozen_core.storage.atomic import write_whole

NAME = os.fsdecode(b"caf\xe9.wav")


def test_error_shows_the_bytes_as_escapes():
    error = DataError(f"`{NAME}` is empty", remedy=f"delete {NAME}", notes=(f"in: {NAME}",))

    assert error.message == r"`caf\xe9.wav` is empty"
    assert error.remedy == r"delete caf\xe9.wav"
    assert str(error).encode().count(rb"caf\xe9.wav") == 3


def test_log_shows_the_bytes_on_the_console_and_keeps_them_in_the_file(tmp_path, capsys):
    with log_file(tmp_path / "run.log"):
        get_logger().warning(f"`{NAME}` is odd", file=NAME)

    assert r"`caf\xe9.wav` is odd" in capsys.readouterr().err
    line = json.loads((tmp_path / "run.log").read_bytes())
    assert (line["event"], line["file"]) == (f"`{NAME}` is odd", NAME)


def test_text_files_with_such_names_are_written(tmp_path):
    write_whole(tmp_path / "a.csv", f"id\n{NAME}\n")
    write_whole(tmp_path / "a.json", json.dumps({"id": NAME}, ensure_ascii=False))
    lines = LineFile(tmp_path / "a.jsonl")
    assert lines.write(json.dumps({"id": NAME}, ensure_ascii=False)) is None
    lines.close()

    assert (tmp_path / "a.csv").read_text() == "id\ncaf\\udce9.wav\n"
    for name in ("a.json", "a.jsonl"):
        assert json.loads((tmp_path / name).read_bytes()) == {"id": NAME}
