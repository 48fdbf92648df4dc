"""Long files: none is kept while the next one is read, and a prediction writes them piece by piece."""

import math
import weakref

import pytest
import soundfile
import torch
from torch import nn

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import RunError
from audiozen_plugins.dataset.collate import collate_read
from tests.plugins.trainer.test_file_by_file import Files, Norm, loader, make, results


@pytest.mark.parametrize("mode", ["test", "validate", "predict"])
def test_no_file_is_kept_while_the_next_one_is_read(tmp_path, mode):
    class Watched(Files):
        """Counts the earlier waves that are in memory when a file is read."""

        def __init__(self):
            super().__init__()
            self.read, self.alive = [], []

        def __getitem__(self, index):
            self.alive.append(sum(wave() is not None for wave in self.read))
            sample = super().__getitem__(index)
            self.read += [weakref.ref(sample[kind].untyped_storage()) for kind in ("noisy", "clean")]
            return sample

        collate_fn = staticmethod(collate_read)

    files = Watched()
    getattr(make(tmp_path, Norm()), mode)([BatchLoader(files)])
    assert files.alive == [0, 0, 0]
    kept = Watched()
    assert len([kept[index] for index in range(3)]) == 3
    assert kept.alive == [0, 2, 4]


class Fails(nn.Module):
    """Gives back half of its input, and NaN from the call `at` on."""

    def __init__(self, at=1000):
        super().__init__()
        self.at, self.calls = at, 0
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return 0.5 * x if self.calls < self.at else x * math.nan


def test_prediction_in_pieces_is_that_of_the_whole_file(tmp_path):
    trainer = make(tmp_path, Norm(), chunk_seconds=0.1)
    trainer.predict([loader(2, clean=False)])
    for index, sample in enumerate(Files()):
        file = {"noisy": sample["noisy"][None], "id": [sample["id"]]}
        with torch.no_grad():
            pieces = list(trainer.enhance_pieces(file, [file["noisy"]]))
            whole, _ = trainer.enhance_file(file)
        assert len(pieces) > 1
        written, _ = soundfile.read(results(tmp_path, "predict") / f"f{index}.wav", dtype="float32")
        assert len(written) == len(sample["noisy"])
        assert abs(written - whole[0].clamp(-1, 32767 / 32768).numpy()).max() <= 0.5001 / 32768
        if index == 2:
            break


def test_nothing_is_written_of_a_file_whose_last_piece_is_not_finite(tmp_path, capsys):
    """The last two pieces of the second file fail."""
    good = Fails()
    make(tmp_path / "good", good, chunk_seconds=0.1).predict([BatchLoader(Files(2), batch_size=1)])
    with pytest.raises(RunError, match="NaN or infinity for 1 of 2 files") as error:
        make(tmp_path, Fails(good.calls - 1), chunk_seconds=0.1).predict([BatchLoader(Files(2), batch_size=1)])
    assert error.value.notes == ("not written: f1",)
    assert [path.name for path in results(tmp_path, "predict").iterdir()] == ["f0.wav"]
    assert capsys.readouterr().err.count("`f1.wav` is not written, because it contains NaN or infinity") == 1
