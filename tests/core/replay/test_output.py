"""The folder of a replay appears whole or not at all, and replaces only an earlier one."""

import errno
import os

import pytest
import torch
from PIL import Image

from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.replay import output
from audiozen_core.replay.preview import preview
from audiozen_core.replay.replay import replay
from audiozen_core.replay.samples import BatchSample, Waveform
from audiozen_core.replay.target import BatchPosition, Target
from tests.core.replay.waves import TOML

FIRST = Target(BatchPosition(1, 0))


def test_each_sample_has_a_picture(run, tmp_path):
    found = replay(run, FIRST, output=tmp_path / "out")
    pictures = sorted(tmp_path.glob("out/*.png"))
    assert [picture.name for picture in pictures] == [f"{i}_{sample.id}.png" for i, sample in enumerate(found.samples)]
    with Image.open(pictures[0]) as picture:
        assert picture.height > 400  # two panels


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["write_json", "write_audio", "rename"])
def test_a_full_disk_leaves_nothing(run, tmp_path, monkeypatch, place):
    folder = tmp_path / "out"
    monkeypatch.setattr(output, "png", lambda picture, fast: b"")
    replay(run, FIRST, output=folder)
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr(output, place, full)
    with pytest.raises(AudioZenError, match="No space left") as raised:
        replay(run, FIRST, output=folder)
    assert "-o" in raised.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.usefixtures("_no_pictures")
def test_only_an_earlier_replay_is_replaced(run, tmp_path):
    folder = tmp_path / "out"
    replay(run, FIRST, output=folder)
    (folder / "old.wav").touch()
    replay(run, FIRST, output=folder)
    assert not (folder / "old.wav").exists()
    other = tmp_path / "other"
    other.mkdir()
    replay(run, FIRST, output=other)  # an empty folder holds nothing
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    with pytest.raises(RunError, match="but this command did not write it"):
        replay(run, FIRST, output=mine)
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]


def test_odd_ids_become_file_names(tmp_path):
    ids = ("../../etc/passwd", "a b/c", 300 * "x", "<script>", "")
    samples = [BatchSample(id, {"noisy": Waveform(torch.zeros(400), 16000)}) for id in ids]
    found = output.write_batch_samples(tmp_path, samples)
    assert len(list(tmp_path.iterdir())) == 10
    assert [entry["id"] for entry in found] == list(ids)
    assert found[0]["picture"] == "0_etc-passwd.png"


@pytest.mark.usefixtures("_no_pictures")
def test_a_preview_has_the_first_batches_of_the_training(tiny, run, tmp_path):
    experiment = Experiment.load(tiny.write(text=TOML, name="new"))
    found = preview(experiment, 3)
    assert found.folder == tiny.folder / "exp" / "new_preview"
    assert not (tiny.folder / "exp" / "new").exists()
    places = BatchPosition(1, 0), BatchPosition(1, 1)
    trained = [sample for place in places for sample in replay(run, Target(place), output=tmp_path / "out").samples]
    assert [sample.id for sample in found.samples] == [sample.id for sample in trained][:3]
    for mine, other in zip(found.samples, trained, strict=False):
        assert mine.waves["noisy"].samples.equal(other.waves["noisy"].samples)
    statistics = found.statistics["clean"]
    assert statistics.count == 3
    assert statistics.peak == max(sample.waves["clean"].peak for sample in found.samples)
    assert len(preview(experiment, 99).samples) == 7  # an epoch has no more
