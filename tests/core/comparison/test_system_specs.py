"""What a user writes stands for the right runs, and a mistake says what to do."""

import json

import pytest

from audiozen_core.comparison.system_specs import parse_systems
from audiozen_core.errors import RunError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("base", "new_seed_1", "new_seed_2", "new_seed_10", "open_seed_3", "lr=1"):
        (tmp_path / "exp" / name).mkdir(parents=True)
    (tmp_path / "exp/new_seeds.json").write_text(json.dumps({"seeds": [1, 2]}))
    (tmp_path / "a,b.csv").write_text("id,m\n")
    return tmp_path


def parsed(text):
    (found,) = parse_systems([text])
    return found.name, [str(path) for path in found.paths], found.state


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exp/base", ("", ["exp/base"], "")),
        ("ours=exp/base", ("ours", ["exp/base"], "")),
        ("exp/base:noisy", ("", ["exp/base"], "noisy")),
        ("in=exp/base:noisy", ("in", ["exp/base"], "noisy")),
        ("exp/lr=1", ("", ["exp/lr=1"], "")),
        ("x=exp/lr=1", ("x", ["exp/lr=1"], "")),
        ("a,b.csv", ("", ["a,b.csv"], "")),
        ("g=exp/base, exp/new_seed_1", ("g", ["exp/base", "exp/new_seed_1"], "")),
        ("exp/new_seed_?", ("", ["exp/new_seed_1", "exp/new_seed_2"], "")),
        # The record of `run --seeds` says which seeds belong to it, so a later seed 10 does not.
        ("exp/new", ("", ["exp/new_seed_1", "exp/new_seed_2"], "")),
        ("exp/new_seeds.json", ("", ["exp/new_seed_1", "exp/new_seed_2"], "")),
        ("exp/new:noisy", ("", ["exp/new_seed_1", "exp/new_seed_2"], "noisy")),
    ],
)
def test_text_stands_for_runs(here, text, expected):
    assert parsed(text) == expected


def test_dict_gives_names_and_groups(here):
    found = parse_systems({"a": "exp/base", "b": ["exp/new_seed_1", here / "exp/new_seed_2"]})
    assert [(one.name, len(one.paths)) for one in found] == [("a", 1), ("b", 2)]


def test_seeds_that_are_not_complete_are_taken_and_reported(here):
    (found,) = parse_systems(["exp/open"])
    assert [path.name for path in found.paths] == ["open_seed_3"]
    assert "there may be more seeds" in found.notes[0]


def test_absolute_pattern(here):
    assert len(parse_systems([f"{here}/exp/*_seed_*"])[0].paths) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exp/bsae", r"`exp/bsae` does not exist: .*`base`"),
        ("exp/nwe", r"`exp/nwe` does not exist: .*`new`"),
        ("exp/base,exp/nowhere", "`exp/nowhere` does not exist"),
        ("exp/x*", "matches the pattern"),
        ("n=nothing", "`nothing` does not exist"),
        ("nothing:noisy", "`nothing` does not exist"),
    ],
)
def test_what_does_not_exist_is_named(here, text, message):
    with pytest.raises(RunError, match=message):
        parse_systems([text])


def test_one_text_is_not_a_list():
    with pytest.raises(RunError, match="not a list"):
        parse_systems("exp/a")
