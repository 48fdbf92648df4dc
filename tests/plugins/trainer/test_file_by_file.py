"""Evaluation of each file by itself: batch sizes, networks that fail, several data sets, and result folders."""

import csv
import json
import math

import pytest
import soundfile
import torch
from torch import nn

from audiozen.metric import SiSdr
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import DataError, RunError
from audiozen_core.scoring.chosen import build_metric
from audiozen_core.trainer.components import Components
from audiozen_plugins.dataset.collate import pad_collate
from audiozen_plugins.trainer.enhancement import EnhancementTrainer

RATE = 16000
SETS = {"validate": ["easy", "hard"], "test": ["easy", "1"]}


class Files(torch.utils.data.Dataset):
    """Tones of very different lengths in noise. `changed` maps an index to a function of (noisy, clean)."""

    collate_fn = staticmethod(pad_collate)

    def __init__(self, size=3, *, changed=None, clean=True, seed=0):
        self.size, self.changed, self.clean, self.seed = size, changed or {}, clean, seed

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        length = (1600, 9000, 5555)[index % 3]
        clean = 0.1 * torch.sin(torch.arange(length) * (0.1 + 0.05 * index))
        noise = torch.randn(length, generator=torch.Generator().manual_seed(index + 100 * self.seed))
        noisy = clean + 0.05 * noise
        if index in self.changed:
            noisy, clean = self.changed[index](noisy, clean)
        sample = {"id": f"f{index}", "noisy": noisy, "sr": RATE}
        return {**sample, "clean": clean} if self.clean else sample


class Norm(nn.Module):
    """A network with a norm over time, as in ConvTasNet: padding changes what it does to the samples."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv1d(1, 4, 9, padding="same"), nn.GroupNorm(1, 4)
        self.last = nn.Conv1d(4, 1, 9, padding="same")

    def forward(self, x):
        flat = x.reshape(-1, 1, x.shape[-1])
        return (self.last(torch.relu(self.norm(self.first(flat)))) + flat).view(x.shape)


class Only(nn.Module):
    """Gives back its input, and `value` instead for files of one length."""

    def __init__(self, length, value):
        super().__init__()
        self.length, self.value = length, value
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x * 0 + self.value if x.shape[-1] == self.length else x + 0.01 * x.roll(1, -1)


def make(folder, model, *, names=None, domain="waveform", acoustics=None, loss=None, cls=EnhancementTrainer, **args):
    components = Components(
        {"": model},
        loss_functions={"": loss or nn.L1Loss()},
        acoustics=acoustics or Acoustics(n_fft=256, win_length=256, hop_length=128),
        folder=folder,
        dataset_names=names or {},
    )
    return cls(components, domain=domain, **{"metrics": ["si_sdr"], "save_enhanced": False, **args})


def loader(batch_size=1, **options):
    return BatchLoader(Files(**options), batch_size=batch_size)


def validated(trainer, *loaders):
    """Returns the score and the scalars of a validation."""
    recorded = {}
    trainer.hooks.on_log = lambda metrics, **_: recorded.update(metrics)
    return trainer.validate(loaders), recorded


def results(folder, mode="test"):
    (found,) = (folder / mode).iterdir()
    return found / "0"


# ----------------------------------------------------------------------------------------------- batch size


@pytest.mark.parametrize("domain", ["waveform", "magnitude"])
@pytest.mark.parametrize("batch_size", [2, 3])
def test_no_result_depends_on_the_batch_size(tmp_path, domain, batch_size):
    def everything(folder, size):
        trainer = make(folder, Norm(), domain=domain, save_enhanced=True)
        scalars = validated(trainer, loader(size))[1]
        trainer.test([loader(size)])
        trainer.predict([loader(size)])
        files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
        return scalars, files

    alone, together = everything(tmp_path / "a", 1), everything(tmp_path / "b", batch_size)
    assert alone == together
    assert len(alone[1]) == 3 + 9 + 3
    assert {"validate/score", "validate/loss", "validate/si_sdr", "validate/si_sdr_noisy"} <= alone[0].keys()


def test_a_padded_batch_would_have_other_scores():
    """Negative control: without taking the batch apart, the short file has another result."""
    (batch,) = loader(3).epoch(0)
    (alone, *_) = loader(1).epoch(0)
    together = Norm()(batch["noisy"])[0, :1600]
    assert (together - Norm()(alone["noisy"])[0]).abs().max() > 0.01


def test_validation_loss_is_the_mean_of_the_losses_of_the_files(tmp_path):
    trainer = make(tmp_path, Norm())
    _, scalars = validated(trainer, loader(2))
    files = [Files()[index] for index in range(3)]
    losses = [(trainer.model(file["noisy"][None]) - file["clean"]).abs().mean().item() for file in files]
    assert scalars["validate/loss"] == pytest.approx(sum(losses) / 3, rel=1e-6)
    noisy = [SiSdr()(file["noisy"], file["clean"], sr=RATE) for file in files]
    assert scalars["validate/si_sdr_noisy"] == pytest.approx(sum(noisy) / 3, rel=1e-9)


# ----------------------------------------------------------------------------------------------- files without a value


@pytest.mark.parametrize(
    ("value", "reason"), [(math.nan, "enhanced is not finite"), (math.inf, "enhanced is not finite"), (0.0, "silent")]
)
def test_network_that_fails_for_one_file_has_no_score_and_is_named(tmp_path, capsys, value, reason):
    trainer = make(tmp_path, Only(9000, value))
    score, scalars = validated(trainer, loader(3))
    assert math.isnan(score)
    assert math.isfinite(scalars["validate/si_sdr_noisy"])
    assert trainer.progress.best_score is None
    said = capsys.readouterr().err
    assert "the mean is left out, because the network's output has no value for 1 of 3 files: f1" in said
    assert reason in said


def test_network_that_fails_for_one_file_has_no_mean_in_a_test_either_and_is_named(tmp_path, capsys):
    trainer = make(tmp_path, Only(9000, math.nan), save_enhanced=True)
    scalars = trainer.test([loader(3)])
    captured = capsys.readouterr()
    assert math.isnan(scalars["test/si_sdr"])
    assert math.isnan(scalars["test/si_sdr_gain"])
    assert scalars["test/si_sdr_missing"] == 1
    _, validation = validated(make(tmp_path, Only(9000, math.nan)), loader(3))
    for name in ("si_sdr_noisy", "si_sdr_missing"):
        assert validation[f"validate/{name}"] == scalars[f"test/{name}"]
    for said in (captured.out, captured.err):
        assert "the network's output has no value for 1 of 3 files: f1 (enhanced is not finite)" in said
    with (results(tmp_path) / "scores.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert (rows["f1"]["si_sdr_enhanced"], rows["f1"]["note"]) == ("", "enhanced is not finite")
    assert float(rows["f1"]["si_sdr_noisy"]) > 0
    content = json.loads((results(tmp_path) / "scores.json").read_text())
    assert content["left_out"]["si_sdr"] == {"pair": {}, "network": {"f1": "enhanced is not finite"}}
    assert len(list((results(tmp_path) / "audio").iterdir())) == 8


def test_prediction_writes_the_good_files_and_then_ends_with_an_error(tmp_path):
    with pytest.raises(RunError, match="NaN or infinity for 1 of 3 files") as error:
        make(tmp_path, Only(9000, math.nan)).predict([loader(2, clean=False)])
    assert error.value.notes == ("not written: f1",)
    assert sorted(path.name for path in results(tmp_path, "predict").iterdir()) == ["f0.wav", "f2.wav"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda noisy, clean: (clean, clean), id="equal"),
        pytest.param(lambda noisy, clean: (noisy, 0 * clean), id="silent clean"),
        pytest.param(lambda noisy, clean: (0 * noisy, clean), id="silent noisy"),
    ],
)
def test_degenerate_pair_is_left_out_of_the_score_and_named_once(tmp_path, capsys, change):
    trainer = make(tmp_path, Norm())
    score, scalars = validated(trainer, loader(2, changed={1: change}))
    again, _ = validated(trainer, loader(2, changed={1: change}))
    rows = [trainer._rate(trainer._validation_rater, file, trainer.signals(file, trainer.enhance_batch(file)[0]))
            for batch in loader(1).epoch(0) for file in trainer.each_file(batch)]  # fmt: skip
    good = [row.values["enhanced"]["si_sdr"] for row in rows if row.id != "f1"]
    assert score == again == pytest.approx(sum(good) / 2)
    assert math.isfinite(scalars["validate/loss"])
    assert capsys.readouterr().err.count("1 file is not in the mean, because the pair has no value: f1") == 1


class LogRatio(nn.Module):
    """A loss that is infinite for a silent target."""

    def forward(self, wave, clean):
        return (wave.square().mean() / clean.square().mean()).log()


def test_mean_loss_and_mean_score_are_over_the_same_files(tmp_path):
    """The loss of a degenerate pair may be finite. It is left out of the mean, like the score of that pair."""
    loss, others = [
        validated(make(tmp_path, Norm()), loader(2, size=2, changed=changed))[1]["validate/loss"]
        for changed in ({1: lambda noisy, clean: (100 * clean, clean)}, {})
    ]
    alone = validated(make(tmp_path, Norm()), loader(1, size=1))[1]["validate/loss"]
    assert loss == alone
    assert others != alone  # negative control: the second file is not like the first


def test_infinite_loss_of_a_degenerate_pair_is_left_out_and_any_other_is_not(tmp_path, capsys):
    silent = {1: lambda noisy, clean: (noisy, 0 * clean)}
    _, scalars = validated(make(tmp_path, Norm(), loss=LogRatio()), loader(2, changed=silent))
    assert math.isfinite(scalars["validate/loss"])
    _, scalars = validated(make(tmp_path, Only(9000, math.nan), loss=LogRatio()), loader(2))
    assert math.isnan(scalars["validate/loss"])
    assert "the loss is not finite for 1 of 3 files: f1" in capsys.readouterr().err


EQUAL = {index: lambda noisy, clean: (clean, clean) for index in range(3)}
MIXED = {
    0: lambda noisy, clean: (clean, 2 * clean),
    1: lambda noisy, clean: (0 * noisy, clean),
    2: lambda noisy, clean: (noisy, clean / 0),
}


@pytest.mark.parametrize("changed", [EQUAL, MIXED], ids=["equal", "all kinds"])
@pytest.mark.parametrize("mode", ["validate", "test"])
def test_data_set_of_degenerate_pairs_alone_is_an_error(tmp_path, mode, changed):
    trainer = make(tmp_path, Norm(), names=SETS)
    with pytest.raises(DataError, match=rf"\[{mode}_dataset\] `{SETS[mode][1]}` has no pair that can be") as caught:
        getattr(trainer, mode)([loader(2), loader(2, changed=changed)])
    note, *_ = caught.value.notes
    assert note.startswith("SI-SDR: 3 files are not in the mean, because the pair has no value: f0 (")
    assert "noisy equals clean" in note
    if mode == "test":  # both tables have been written
        for name in SETS["test"]:
            assert (
                len((tmp_path / "test" / "epoch_0000.incomplete" / name / "scores.csv").read_text().splitlines()) == 4
            )


def test_one_pair_that_can_be_rated_is_enough_and_a_test_without_metrics_too(tmp_path):
    changed = {index: EQUAL[index] for index in (0, 2)}
    assert math.isfinite(validated(make(tmp_path, Norm()), loader(2, changed=changed))[0])
    make(tmp_path, Norm()).test([loader(2, changed=changed)])
    make(tmp_path, Norm(), metrics=[]).test([loader(2, changed=EQUAL)])


def test_network_without_any_value_is_not_the_fault_of_the_data(tmp_path):
    class Nan(nn.Module):
        def forward(self, x):
            return x * math.nan

    score, _ = validated(make(tmp_path, Nan()), loader(2))
    assert math.isnan(score)


# ----------------------------------------------------------------------------------------------- several data sets


def test_each_data_set_has_its_own_scalars_rows_and_table(tmp_path, capsys):
    trainer = make(tmp_path, Norm(), names=SETS)
    together = trainer.test([loader(2), loader(2, seed=7)])
    shown = capsys.readouterr().out
    assert "easy: noisy and enhanced" in shown
    assert "1: noisy and enhanced" in shown
    assert {name.rpartition("/")[0] for name in together} == {"test/easy", "test/1"}
    for index, name in enumerate(("easy", "1")):
        alone = make(tmp_path / name, Norm()).test([loader(2, seed=7 * index)])
        assert together[f"test/{name}/si_sdr"] == alone["test/si_sdr"]
        scores = tmp_path / "test" / "epoch_0000" / name / "scores.csv"
        assert scores.read_bytes() == (results(tmp_path / name) / "scores.csv").read_bytes()
    assert together["test/easy/si_sdr"] != together["test/1/si_sdr"]


@pytest.mark.parametrize(("chosen", "index"), [(None, 0), ("easy", 0), ("hard", 1)])
def test_score_is_that_of_one_validation_set_which_the_log_names(tmp_path, capsys, chosen, index):
    trainer = make(tmp_path, Norm(), names=SETS, score_dataset=chosen)
    assert f"the score is that of the validation set `{SETS['validate'][index]}`" in capsys.readouterr().err
    score, scalars = validated(trainer, loader(2), loader(2, seed=7))
    assert score == scalars["validate/score"] == scalars[f"validate/{SETS['validate'][index]}/si_sdr"]
    assert scalars["validate/easy/si_sdr"] != scalars["validate/hard/si_sdr"]
    assert {"validate/easy/loss", "validate/hard/loss", "validate/hard/si_sdr_noisy"} <= scalars.keys()


def test_score_dataset_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(RunError, match="no validation set has this name") as error:
        make(tmp_path, Norm(), names=SETS, score_dataset="heard")
    assert "`easy`, `hard`" in error.value.remedy


def test_network_that_fails_on_another_set_keeps_its_score(tmp_path, capsys):
    trainer = make(tmp_path, Only(9000, math.nan), names=SETS)
    score, scalars = validated(trainer, loader(1, size=1), loader(2))
    assert math.isfinite(score)
    assert math.isnan(scalars["validate/hard/si_sdr"])
    assert "validation hard/SI-SDR: the mean is left out" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- the model's output


class Shaped(nn.Module):
    """Returns its input in another shape."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.reshape([{"b": x.shape[0], "t": x.shape[-1]}.get(size, size) for size in self.shape])


@pytest.mark.parametrize("shape", [["b", 1, 1, "t"], ["b", 1, "t"], [1, "b", "t"], ["b", "t", 1], [1, "b", 1, "t", 1]])
def test_axes_of_size_one_are_dropped(tmp_path, shape):
    noisy = torch.randn(2, 3000)
    wave, _ = make(tmp_path, Shaped(shape)).enhance(noisy)
    assert torch.equal(wave, noisy)


@pytest.mark.parametrize("shape", [["t", "b"], ["b", 2, -1], [-1], [1, "t", "b"]])
def test_other_shapes_are_refused(tmp_path, shape):
    with pytest.raises(RunError, match=r"expected \[2, 3000\]"):
        make(tmp_path, Shaped(shape)).enhance(torch.randn(2, 3000))


# ----------------------------------------------------------------------------------------------- results


def test_two_samples_with_one_id_are_an_error(tmp_path):
    class Twins(Files):
        def __getitem__(self, index):
            return {**super().__getitem__(index), "id": "twin"}

    twins = BatchLoader(Twins())
    with pytest.raises(DataError, match=r"two samples (have the ID|would write the same file) `(audio/)?twin"):
        make(tmp_path, Norm()).predict([twins])
    for mode, saves in (("test", True), ("test", False), ("validate", False)):
        with pytest.raises(DataError, match=r"two samples (have the ID|would write the same file) `(audio/)?twin"):
            getattr(make(tmp_path, Norm(), save_enhanced=saves), mode)([twins])
    make(tmp_path, Norm()).test([loader(), loader(seed=7)])  # two data sets may have the same IDs


def test_test_and_prediction_do_not_share_a_folder_and_overwrite_nothing(tmp_path):
    trainer = make(tmp_path, Norm(), save_enhanced=True)
    trainer.test([loader()])
    trainer.predict([loader()])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    nn.init.zeros_(trainer.model.last.weight)
    trainer.test([loader()])
    trainer.predict([loader()])
    assert before == {path: path.read_bytes() for path in before}
    assert soundfile.info(tmp_path / "predict/epoch_0000_2/0/f1.wav").frames == 9000
    assert sorted(path.name for path in (tmp_path / "test").iterdir()) == ["epoch_0000", "epoch_0000_2"]


# ----------------------------------------------------------------------------------------------- the metrics


@pytest.mark.parametrize("chunk_seconds", [0.1, 0.3, 10])
def test_validation_loss_of_each_file_compares_the_same_quantity(tmp_path, chunk_seconds):
    """With chunks, the magnitudes are those of the enhanced wave, also for files that are not longer than a chunk."""
    trainer = make(tmp_path, Norm(), domain="magnitude", chunk_seconds=chunk_seconds, overlap_seconds=0.03)
    for batch in loader().epoch(0):
        for file in trainer.each_file(batch):
            wave, magnitude = trainer.enhance_file(file)
            assert magnitude is None
            (validated_file,) = trainer.validation_step(file, 0, 0)
            estimate, target = (trainer.stft(signal).abs() for signal in (wave, file["clean"]))
            assert validated_file.loss.item() == pytest.approx(nn.L1Loss()(estimate, target).item(), rel=1e-5)
    whole = make(tmp_path, Norm(), domain="magnitude")
    assert whole.enhance_file(file)[1] is not None


def test_part_of_a_network_that_changes_its_input_changes_no_score(tmp_path):
    """The trainer copies the inputs of networks, but this one calls a part of its network by itself."""

    class Loud(nn.Module):
        def forward(self, x):
            return x.mul_(3).clamp_(-0.1, 0.1)

    class Trainer(EnhancementTrainer):
        def enhance(self, noisy):
            return self.model[0](noisy), None

    changed = make(tmp_path, nn.Sequential(Loud()), cls=Trainer).test([loader()])["test/si_sdr_noisy"]
    assert changed == make(tmp_path, nn.Identity()).test([loader()])["test/si_sdr_noisy"]


def test_one_snr_for_a_whole_batch_is_accepted(tmp_path):
    def collate(samples):
        return {**pad_collate(samples), "snr": 5.0}

    make(tmp_path, nn.Identity()).test([BatchLoader(Files(), batch_size=3, collate_fn=collate)])
    with next(tmp_path.rglob("scores.csv")).open() as file:
        assert [row["snr"] for row in csv.DictReader(file)] == ["5"] * 3


def test_metric_that_is_a_module_is_in_evaluation_mode():
    class Mode(nn.Module):
        name, label, unit, higher_is_better = "mode", "mode", "", True

        def forward(self, estimate, reference, *, sr):
            return float(self.training)

    assert build_metric(Mode())(None, None, sr=RATE) == 0


# ----------------------------------------------------------------------------------------------- what metrics need


class Told:
    """A metric that tells how many words the text of a file has, or the mean of its far end."""

    label, unit, higher_is_better = "TOLD", "", True

    def __init__(self, *needs):
        self.needs, self.name = needs, "_".join(("told", *needs))

    def __call__(self, estimate, reference, *, sr, text="", far_end=None, noisy=None):
        assert noisy is None or noisy.shape == estimate.shape
        return float(len(text.split())) if far_end is None else float(far_end.mean())


class Spoken(Files):
    """Files with a text and the signal of a loudspeaker."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return {**sample, "text": "one two three", "far_end": torch.full_like(sample["noisy"], 0.5)}


def test_metrics_of_a_test_get_the_text_and_the_far_end_of_each_file(tmp_path):
    metrics = [Told("text"), Told("far_end", "noisy"), Told()]
    trainer = make(tmp_path, Norm(), metrics=metrics)
    trainer.test([BatchLoader(Spoken(), batch_size=3)])
    means = json.loads((results(tmp_path) / "scores.json").read_text())["all"]
    assert {name: mean["enhanced"] for name, mean in means.items()} == {
        "told_text": 3,
        "told_far_end_noisy": 0.5,
        "told": 0,
    }


def test_metric_whose_needs_a_data_set_lacks_is_left_out_of_its_table_with_a_warning(tmp_path, capsys):
    trainer = make(tmp_path, Norm(), metrics=["si_sdr", Told("text"), Told()], names=SETS)
    trainer.test([BatchLoader(Spoken()), loader(clean=False)])
    (found,) = (tmp_path / "test").iterdir()
    with_text, without = (json.loads((found / name / "scores.json").read_text()) for name in ("easy", "1"))
    assert list(with_text["metrics"]) == ["si_sdr", "told_text", "told"]
    assert list(without["metrics"]) == ["told"]
    warnings = capsys.readouterr().err
    assert "test 1/SI-SDR is left out, because it needs `clean` in each sample" in warnings
    assert "test 1/TOLD is left out, because it needs `text` in each sample" in warnings
    assert "easy/" not in warnings


def test_clean_signals_are_required_if_every_metric_needs_them(tmp_path):
    with pytest.raises(DataError, match="the batch has no `clean`"):
        make(tmp_path, Norm()).test([loader(clean=False)])


def test_score_whose_needs_the_validation_set_lacks_is_an_error_before_the_training(tmp_path):
    with pytest.raises(RunError, match="TOLD needs `text`, which the files lack"):
        make(tmp_path, Norm(), score=Told("text")).train(loader(), [loader()])
    with pytest.raises(DataError, match="has no pair that can be rated") as caught:
        make(tmp_path, Norm(), score=Told("text")).validate([loader()])
    assert "f0 (text is missing)" in caught.value.notes[0]
