"""A suggestion names something that exists where it would be used, also for words of other toolkits."""

from __future__ import annotations

import pytest

from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.config.schema import known_keys
from audiozen_core.diagnostics.suggestions import nearest
from audiozen_core.diagnostics.synonyms import SYNONYMS
from audiozen_core.errors import ConfigError
from audiozen_core.kinds import SECTIONS
from audiozen_core.registry.paths import resolve

# Other tests cover the same code. Measuring the coverage here too would take longer than the tests themselves.
pytestmark = pytest.mark.no_cover

TOML = """\
[meta]
save_dir = "exp"
[acoustics]
sr = 16000
[trainer]
path = "enhancement"
[trainer.args]
max_epochs = 2
[model]
path = "sdnn"
[loss_function]
path = "torch.nn.L1Loss"
[optimizer]
path = "torch.optim.Adam"
[lr_scheduler]
path = "torch.optim.lr_scheduler.StepLR"
args.step_size = 1
[dataset]
path = "noisy_clean_folders"
[dataset.args]
noisy_dir = "noisy"
clean_dir = "clean"
[dataset.dataloader]
batch_size = 2
[validate_dataset]
path = "noisy_clean_folders"
args = { noisy_dir = "noisy", clean_dir = "clean" }
[test_dataset]
path = "noisy_clean_folders"
args = { noisy_dir = "noisy", clean_dir = "clean" }
"""


@pytest.fixture
def label(tmp_path):
    """Returns a function that replaces a text in the TOML file and returns the label of the first finding."""

    def label(old, new):
        assert TOML.count(old) == 1
        (tmp_path / "exp.toml").write_text(TOML.replace(old, new))
        with pytest.raises(ConfigError) as caught:
            check_config(load_config(tmp_path / "exp.toml"))
        findings = [found for found in caught.value.diagnostics if found.code in ("AZ101", "AZ102", "AZ140")]
        assert len(findings) == 1
        return findings[0].label.removeprefix("did you mean `").removesuffix("`?")

    return label


@pytest.mark.parametrize(
    ("section", "others"),
    [
        ("meta", "general experiment metadata"),
        ("acoustics", "acoustic audio stft dsp features"),
        ("trainer", "train training solver runner trainr"),
        ("model", "net network models modl generator"),
        ("loss_function", "criterion loss_fn losses loss_functions los_function"),
        ("optimizer", "opt optim optimiser optimizers"),
        ("lr_scheduler", "scheduler sched lr_sheduler learning_rate_scheduler"),
        ("dataset", "data datasets datamodule train trainset training_dataset"),
        ("validate_dataset", "val valid validation dev val_dataset valid_dataset dev_dataset eval_dataset dataset_val"),
        ("test_dataset", "test testset evaluation_dataset dataset_test"),
    ],
)
def test_other_names_of_a_section_suggest_it(label, section, others):
    for other in others.split():
        assert label(f"[{section}]\n", f"[{other}]\n") == section


@pytest.mark.parametrize(
    ("other", "suggestion"),
    [
        ("validation_dataloader", "validate_dataset.dataloader"),
        ("val_loader", "validate_dataset.dataloader"),
        ("validate_dataloader", "validate_dataset.dataloader"),
        ("test_dataloader", "test_dataset.dataloader"),
        ("infer_dataset", "predict_dataset"),
        ("predict", "predict_dataset"),
        ("callbacks", "hooks"),
        ("hook", "hooks"),
        ("logger", "hooks"),
        ("metrics", "trainer.args.metrics"),
        ("sampler", "dataset.dataloader.sampler"),
        ("modl_g", "model_g"),
        ("net_g", "model_g"),
    ],
)
def test_section_of_another_toolkit_suggests_the_place_where_audiozen_has_it(label, other, suggestion):
    assert label("[acoustics]", f"[{other}]\n[acoustics]") == suggestion


@pytest.mark.parametrize("other", ["banana", "my_dataloder_things", "meta_g"])
def test_section_without_a_likely_meaning_has_no_suggestion(label, other):
    assert "did you mean" not in label("[acoustics]", f"[{other}]\n[acoustics]")


@pytest.mark.parametrize(
    ("old", "others", "suggestion"),
    [
        ("save_dir", "output_dir output_folder exp_dir", "save_dir"),
        ("sr", "fs sample_rate samplerate", "sr"),
        ("sr = 16000", "nfft=1 fft_size=1", "n_fft"),
        ("sr = 16000", "hop=1 hop_size=1 frame_shift=1", "hop_length"),
        ("sr = 16000", "win_len=1 window_size=1", "win_length"),
        ("batch_size", "bs batchsize batch", "batch_size"),
        ("batch_size", "workers n_workers num_worker", "num_workers"),
        ("max_epochs", "epochs num_epochs number_of_epochs", "max_epochs"),
        ("max_epochs", "clip_grad gradient_clip_val", "clip_grad_norm_value"),
        ("max_epochs", "accumulate_grad_batches accum_grad", "gradient_accumulation_steps"),
        ("max_epochs", "early_stopping", "patience"),
    ],
)
def test_other_names_of_a_key_suggest_it(label, old, others, suggestion):
    for other in others.split():
        assert label(old, other) == suggestion


@pytest.mark.parametrize("word", ["val_check_interval", "eval_steps", "min_epochs", "max_time", "checkpoint_dir"])
def test_word_for_what_audiozen_does_not_have_suggests_nothing(label, word):
    """In Lightning, `val_check_interval` is a part of an epoch, or a number of batches."""
    assert label("max_epochs", word) == ""


def test_every_synonym_stands_for_something_that_exists():
    arguments = {name for cls in resolve("enhancement", section="trainer").target.__mro__ for name in _keywords(cls)}
    keys = {key for place in ("meta", "acoustics") for key in known_keys((place,))}
    keys |= {*known_keys(("dataset", "dataloader")), *known_keys(("hooks", 0))}
    assert set(SYNONYMS) <= {*SECTIONS, *keys, *arguments}


def _keywords(cls):
    return getattr(cls.__init__, "__kwdefaults__", None) or ()


def test_synonym_is_suggested_only_where_it_is_possible():
    assert nearest("fs", ["sr", "n_fft"]) == "sr"
    assert nearest("fs", ["lr", "betas"]) is None
    assert nearest("training", ["dataset", "trainer"]) == "trainer"
    assert nearest("training", ["dataset", "model"]) == "dataset"
