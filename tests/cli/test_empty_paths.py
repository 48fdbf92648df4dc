"""An empty path, as from an unset variable of the shell, is an error, and not the working directory."""

import pytest

from tests.cli.conftest import audiozen  # noqa: F401 - fixtures


@pytest.mark.parametrize(
    "command",
    [
        ("enhance", "exp/a", "in", "-o", ""),
        ("evaluate", "in", "--clean", ""),
        ("evaluate", ""),
        ("compare", "a.csv", "b.csv", "-o", ""),
        ("report", "exp/a", "-o", ""),
        ("listen", "a", "b", "-o", ""),
        ("listen", "a", "b", "-o", "t.html", "--clean", ""),
        ("replay", "", "--epoch", "1", "--batch", "0"),
        ("runs", ""),
        ("run", ""),
        ("check", ""),
    ],
    ids=" ".join,
)
def test_empty_path_is_an_error(command, audiozen, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    done = audiozen(*command)
    assert done.code == 2
    assert "the path is empty" in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("compare", "a.csv", ""), ("report", "new="), ("listen", "", "-o", "t.html")])
def test_empty_system_is_an_error(command, audiozen, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("id,pesq\na,1\nb,2\n")
    done = audiozen(*command)
    assert done.code == 2
    assert "is empty" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
