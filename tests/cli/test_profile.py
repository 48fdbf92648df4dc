"""`audiozen profile`, as a user calls it."""

import json

import pytest

from audiozen_core.testing.tiny import TinyExperiment


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return TinyExperiment(tmp_path_factory.mktemp("tiny"))


def test_profile_prints_a_table_and_one_sentence_and_writes_a_trace(audiozen, tiny):
    before = tiny.write().read_bytes()
    done = audiozen("profile", str(tiny.file), "--steps", "3")
    assert done.code == 0, done.out + done.err
    folder = tiny.folder / "exp/tiny_profile"
    numbers = json.loads((folder / "profile.json").read_text())
    assert numbers["steps"] == 3
    assert done.out.count(numbers["advice"]) == 1
    rows = {line[:24].strip().rstrip("0123456789. "): line for line in done.out.split("\n\n")[0].splitlines()}
    assert {"data", "forward", "backward", "optimiser", "hook metrics_jsonl", "the rest", "a step"} <= rows.keys()
    shares = [float(line.split("█")[0].split()[-1]) for name, line in rows.items() if name not in ("part", "a step")]
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))
    # Each sample is an eighth of a second.
    assert numbers["real_time_factor"] == pytest.approx(numbers["samples_per_second"] / 8)
    assert "times as fast as the audio plays" in done.out
    assert "not measured, because a profile saves nothing and does not validate: " in done.out
    assert "forward" in (folder / "trace.json").read_text()
    assert sorted(path.name for path in (tiny.folder / "exp").iterdir()) == ["tiny_profile"]
    assert tiny.file.read_bytes() == before


def test_profile_writes_to_the_output_option_and_accepts_overrides(audiozen, tiny, tmp_path):
    folder = tmp_path / "a/b"
    done = audiozen(
        "profile", str(tiny.write()), "--steps", "3", "-o", str(folder), "--set", "dataset.dataloader.batch_size=1"
    )
    assert done.code == 0, done.out + done.err
    assert sorted(path.name for path in folder.iterdir()) == ["profile.json", "trace.json"]
    for arguments in (["--steps", "2"], ["-o", ""], ["--set", "optimizer.args.lrr=1"]):
        assert audiozen("profile", str(tiny.file), *arguments).code == 2
