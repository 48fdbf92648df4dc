"""Files are read into a typed configuration, and every mistake in their sections is reported."""

import dataclasses
import re
import subprocess
import sys
import textwrap

import pytest
import tomli

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.config.load import load_config
from audiozen_core.config.schema import keys_of, table_at
from audiozen_core.config.sections import Component, Dataloader, Meta, ModelComponent
from audiozen_core.diagnostics import config_codes
from audiozen_core.errors import ConfigError
from audiozen_core.kinds import SECTIONS, split_section

MINIMAL = """
[meta]
save_dir = "exp"
[trainer]
path = "enhancement"
[model]
path = "sdnn"
[loss_function]
path = "si_snr"
[optimizer]
path = "torch.optim.Adam"
[dataset]
path = "mix"
"""

# An exact copy of the example in the documentation.
DOCUMENTED = """\
[meta]
save_dir = "sdnn_delays/exp"
seed = 0
use_amp = false
use_deterministic_algorithms = false

[trainer]
path = "trainer.Trainer"
[trainer.args]
max_epoch = 9999
clip_grad_norm_value = 5

[acoustics]
n_fft = 512
win_length = 256
sr = 16000
hop_length = 256

[loss]
path = "audiozen.loss.SoftDTWLoss"
[loss.args]
gamma = 0.1

[optimizer]
path = "torch.optim.RAdam"
[optimizer.args]
lr = 0.01
weight_decay = 1e-5

[model]
path = "model.Model"
[model.args]
threshold = 0.1
tau_grad = 0.1
scale_grad = 0.8
max_delay = 64
out_delay = 0
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="exp.toml"):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def load(write):
    return lambda text, *overrides, modes=("train",): load_config(write(text), overrides, modes)


@pytest.fixture
def findings(write):
    def findings(text, *overrides, modes=("train",)):
        return load_config(write(text), overrides, modes).findings

    return findings


def summary(finding):
    return finding.code, finding.span.line, finding.span.column, finding.suggestion


# ---------------------------------------------------------------------------------------------- valid files


def test_minimal_file_loads_with_all_defaults(load, tmp_path):
    loaded = load(MINIMAL)
    config = loaded.config
    assert loaded.findings == ()
    assert (config.id, config.file) == ("exp", tmp_path / "exp.toml")
    assert config.meta == Meta(save_dir="exp")
    assert config.acoustics == Acoustics()
    assert config.trainer == Component(path="enhancement", args={}, key=("trainer",))
    assert config.components["model"] == {"": ModelComponent(path="sdnn", key=("model",))}
    assert [part.path for part in config.datasets["train"]] == ["mix"]
    assert config.datasets["test"] == config.hooks == []
    assert config.components["lr_scheduler"] == {}


def test_documented_example_loads(load):
    data = '[dataset]\npath = "noisy_speech_mix"\n[validate_dataset]\npath = "noisy_speech_mix"\n'
    loaded = load(f"{DOCUMENTED}\n{data}")
    assert loaded.config.trainer.args == {"max_epochs": 9999, "clip_grad_norm_value": 5}
    assert loaded.config.components["loss_function"][""].path == "audiozen.loss.SoftDTWLoss"
    assert [summary(warning) for warning in loaded.findings] == [
        ("AZ110", 10, 1, "max_epochs"),
        ("AZ110", 19, 2, "loss_function"),
    ]


def test_effective_text_loads_to_the_same_configuration(load, write):
    text = MINIMAL + "[dataset.args]\nroot = '${here}/$${x}'\nn = '${acoustics.sr}'\n[[hooks]]\npath = 'a'\n"
    first = load(text, "meta.seed=7").config
    second = load_config(write(first.text, "again.toml")).config
    assert "${here}" not in first.text
    assert second.text == first.text
    assert dataclasses.replace(second, id=first.id, file=first.file) == first


def test_suffix_distinguishes_sections_of_one_kind(load):
    text = MINIMAL.replace("[model]", "[model_g]").replace("[optimizer]", "[optimizer_g]")
    text += "[model_d]\npath = 'd'\n[optimizer_d]\npath = 'o'\n[lr_scheduler_d]\npath = 's'\ninterval = 'step'\n"
    text += "[loss_function_d]\npath = 'l'\n[model_teacher]\npath = 't'\n"
    config = load(text).config
    assert list(config.components["model"]) == ["g", "d", "teacher"]
    assert list(config.components["optimizer"]) == ["g", "d"]
    assert config.components["lr_scheduler"]["d"].interval == "step"
    assert list(config.components["loss_function"]) == ["", "d"]
    assert config.components["model"]["d"].section == "model_d"


def test_data_set_section_is_a_table_or_an_array_of_tables(load):
    text = MINIMAL + "[[validate_dataset]]\npath = 'a'\n[[validate_dataset]]\npath = 'b'\n[test_dataset]\npath = 'c'\n"
    datasets = load(text).config.datasets
    assert [(part.path, part.key) for part in datasets["validate"]] == [
        ("a", ("validate_dataset", 0)),
        ("b", ("validate_dataset", 1)),
    ]
    assert datasets["test"][0].key == ("test_dataset",)


def test_dataloader_section_may_set_collate_function_and_sampler(load):
    text = MINIMAL + (
        "[dataset.dataloader]\nbatch_size = 8\ntimeout = 3\nshuffle = false\ncollate_fn = 'a.b'\n"
        "sampler = {path = 'c.d', args = {x = 1}}\n"
    )
    loaded = load(text)
    dataloader = loaded.config.datasets["train"][0].dataloader
    assert dataloader == Dataloader(
        batch_size=8,
        timeout=3.0,
        shuffle=False,
        collate_fn=Component(path="a.b", key=("dataset", "dataloader", "collate_fn")),
        sampler=Component(path="c.d", args={"x": 1}, key=("dataset", "dataloader", "sampler")),
    )
    assert {part.path for part in loaded.sections.components()} >= {"a.b", "c.d", "mix", "enhancement"}


def test_hooks_keep_their_order_and_can_be_disabled(load):
    hooks = load(MINIMAL + "[[hooks]]\npath = 'a'\nargs.x = 1\n[[hooks]]\npath = 'b'\nenabled = false\n").config.hooks
    assert [(hook.path, hook.enabled, hook.args, hook.key) for hook in hooks] == [
        ("a", True, {"x": 1}, ("hooks", 0)),
        ("b", False, {}, ("hooks", 1)),
    ]


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])
def test_every_known_device_is_accepted(load, device):
    assert load(MINIMAL, f"meta.device={device}").config.meta.device == device


def test_integer_is_converted_to_a_float(load):
    timeout = load(MINIMAL, "dataset.dataloader.timeout=3").config.datasets["train"][0].dataloader.timeout
    assert isinstance(timeout, float)


# ----------------------------------------------------------------------------------------- missing sections and keys


@pytest.mark.parametrize(
    ("modes", "missing"),
    [
        (["train"], ["meta", "trainer", "model", "loss_function", "optimizer", "dataset"]),
        (["finetune"], ["meta", "trainer", "model", "loss_function", "optimizer", "dataset"]),
        (["validate"], ["meta", "trainer", "model", "validate_dataset"]),
        (["predict", "test"], ["meta", "trainer", "model", "predict_dataset", "test_dataset"]),
        ([], ["meta", "trainer", "model"]),
    ],
)
def test_modes_decide_which_sections_are_required(findings, modes, missing):
    result = findings("[acoustics]\nsr = 8000\n\n\n", modes=modes)
    assert [finding.code for finding in result] == ["AZ103"] * len(missing)
    assert [re.search(r"\[(\w+)\]", finding.message)[1] for finding in result] == missing
    assert {(finding.span.line, finding.span.column) for finding in result} == {(2, 10)}


def test_empty_array_of_data_sets_counts_as_missing(findings):
    (finding,) = findings("dataset = []\n" + MINIMAL.partition("[dataset]")[0])
    assert finding.code == "AZ103"


def test_misspelt_section_or_key_is_not_also_reported_as_missing(findings):
    (finding,) = findings(MINIMAL.replace("[optimizer]", "[optimiser]"))
    assert summary(finding) == ("AZ101", 10, 2, "optimizer")
    (finding,) = findings(MINIMAL.replace("path = 'sdnn'", "").replace('path = "sdnn"', 'pth = "sdnn"'))
    assert summary(finding) == ("AZ102", 7, 1, "path")


# ---------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[meta]\nseed = 'x'", ("AZ105", 2, 8, None)),
        ("[meta]\nseed = '3'", ("AZ105", 2, 8, "3")),
        ("[meta]\nseed = 3.0", ("AZ105", 2, 8, "3")),
        ("[meta]\nseed = 3.5", ("AZ105", 2, 8, None)),
        ("[meta]\nseed = true", ("AZ105", 2, 8, None)),
        ("[meta]\nseed = [1]", ("AZ105", 2, 8, None)),
        ("[meta]\nseed = -1", ("AZ106", 2, 8, None)),
        ("[meta]\nseed = 9223372036854775808", ("AZ106", 2, 8, None)),
        ("[meta]\nseed = {path = 'x'}", ("AZ105", 2, 8, None)),
        ("[meta]\nimport_from = ['a', 5]", ("AZ105", 2, 21, '"5"')),
        ("[meta]\nimport_from = 'a'", ("AZ105", 2, 15, '["a"]')),
        ("[meta]\nimport_from = [{path = 'x'}]", ("AZ105", 2, 15, None)),
        ("[meta]\nuse_amp = 1", ("AZ105", 2, 11, "true")),
        ("[meta]\nuse_amp = [1]", ("AZ105", 2, 11, None)),
        ("[trainer]\npath = 'x'\nargs = [1]", ("AZ105", 3, 8, None)),
        ("[meta]\nuse_amp = 'False'", ("AZ105", 2, 11, "false")),
        ("[meta]\nsave_dir = 2026", ("AZ105", 2, 12, '"2026"')),
        ("[meta]\nsave_dir = 2026-11-22", ("AZ105", 2, 12, None)),
        ("[meta]\ndevice = 'gpu'", ("AZ106", 2, 10, '"cpu"')),
        ("[meta]\ndevice = 'cude'", ("AZ106", 2, 10, '"cuda"')),
        ("[meta]\nnum_threads = 0", ("AZ106", 2, 15, None)),
        ("[meta]\nnum_threads = 100000", ("AZ106", 2, 15, None)),  # torch ends with a segmentation fault
        ("[meta]\nsede = 1", ("AZ102", 2, 1, "seed")),
        ("meta.sede = 1", ("AZ102", 1, 6, "seed")),
        ("meta = {sede = 1}", ("AZ102", 1, 9, "seed")),
        ("meta = 3", ("AZ105", 1, 8, None)),
        ("model = 'sdnn'", ("AZ105", 1, 9, None)),
        ("[[model]]\npath = 'x'", ("AZ105", 1, 1, None)),
        ("dataset = [1]", ("AZ105", 1, 12, None)),
        ("seed = 1", ("AZ102", 1, 1, None)),
        ("[banana]\nx = 1", ("AZ101", 1, 2, None)),
        ("[modle_g]\npath = 'x'", ("AZ101", 1, 2, "model_g")),
        ("[meta_g]\nx = 1", ("AZ101", 1, 2, None)),
        ("[acoustics]\nsr = 0", ("AZ106", 2, 6, None)),
        ("[acoustics]\nn_ftf = 512", ("AZ102", 2, 1, "n_fft")),
        ("[acoustics]\nwindow = 'han'", ("AZ106", 2, 10, '"hann"')),
        ("[acoustics]\nwindow = 3", ("AZ105", 2, 10, None)),
        ("[model_x]\nargs = {}", ("AZ104", 1, 1, None)),
        ("[model]\npath = 3", ("AZ105", 2, 8, '"3"')),
        ("[model]\npath = 'x'\nlr = 1", ("AZ102", 3, 1, None)),
        ("[model]\npath = 'x'\nargs = 1", ("AZ105", 3, 8, None)),
        ("[lr_scheduler]\npath = 'x'\ninterval = 'batch'", ("AZ106", 3, 12, None)),
        ("[lr_scheduler]\npath = 'x'\ninterval = 1", ("AZ105", 3, 12, None)),
        ("[model]\npath = 'x'\ninterval = 'step'", ("AZ102", 3, 1, None)),
        ("[dataset]\npath = 'x'\n[dataset.dataloader]\nbatch_size = 0", ("AZ106", 4, 14, None)),
        ("[dataset]\npath = 'x'\n[dataset.dataloader]\nbatchsize = 1", ("AZ102", 4, 1, "batch_size")),
        ("[dataset]\npath = 'x'\ndataloader = 1", ("AZ105", 3, 14, None)),
        ("[dataset]\npath = 'x'\ndataloader.sampler = 1", ("AZ105", 3, 22, None)),
        ("[dataset]\npath = 'x'\ndataloader.sampler.args.x = 1", ("AZ104", 3, 12, None)),
        ("[[hooks]]\npath = 'x'\nenabled = 0", ("AZ105", 3, 11, "false")),
        ("[[hooks]]\npath = 'x'\n[[hooks]]\nargs.x = 1", ("AZ104", 3, 1, None)),
        ("[optimizer_g]\npath = 'x'", ("AZ108", 1, 2, None)),
        ("[lr_scheduler_g]\npath = 'x'", ("AZ108", 1, 2, "lr_scheduler")),
    ],
)
def test_each_mistake_is_reported_with_code_position_and_suggestion(write, text, expected):
    # Extending the minimal file adds all required sections, so `text` needs only the mistake.
    write(MINIMAL, "minimal.toml")
    findings = load_config(write(f"extends = 'minimal.toml'\n{text}")).findings
    code, line, *rest = expected
    assert [summary(finding) for finding in findings if finding.severity == "error"] == [(code, line + 1, *rest)]


def test_message_describes_a_wrong_type_in_words(findings):
    (finding,) = findings(MINIMAL, "meta.use_amp=1.5")
    assert finding.message == "`meta.use_amp` must be `true` or `false`, not the float `1.5`"
    assert finding.label == "expected `true` or `false`"


def test_unresolved_reference_is_not_reported_as_a_wrong_type(findings):
    (finding,) = findings(MINIMAL, "meta.seed=${nothing.here}")
    assert finding.code == "AZ133"


def test_suggestion_for_an_optimizer_has_the_suffix_of_the_model_that_lacks_one(findings):
    text = MINIMAL.replace("[model]", "[model_g]")
    (finding,) = findings(text)
    assert summary(finding) == ("AZ108", 10, 2, "optimizer_g")


def test_findings_are_sorted_by_file_with_overrides_last(write):
    write("[meta]\nsave_dir = 1\n", "base.toml")
    text = "extends = 'base.toml'\n" + MINIMAL.replace('[meta]\nsave_dir = "exp"', "[meta]\nsede = 1") + "[x]\n"
    loaded = load_config(write(text), ["meta.sed=1"])
    assert [(finding.span.file.name, finding.span.line) for finding in loaded.findings] == [
        ("exp.toml", 4),
        ("exp.toml", 15),
        ("base.toml", 2),
        ("--set", 1),
    ]
    with pytest.raises(ConfigError):
        _ = loaded.config


def test_configuration_with_errors_raises_all_findings_at_once(write):
    with pytest.raises(ConfigError) as caught:
        _ = load_config(write(MINIMAL + "[loss_d]\npath = 1\n[x]\n[y]\n")).config
    assert [finding.code for finding in caught.value.diagnostics] == ["AZ110", "AZ105", "AZ101", "AZ101"]
    assert "exp.toml:15:8" in str(caught.value)


# ---------------------------------------------------------------------------------------------- schema and imports


def test_every_key_is_documented_and_only_path_and_save_dir_are_required():
    required = set()
    for name in (*SECTIONS, "x"):
        table = table_at((name,))
        for key in keys_of(table).values() if table else ():
            assert key.rules["doc"], (name, key)
            required |= {(table.__name__, key.name)} if key.required else set()
    assert required == {
        ("Meta", "save_dir"),
        *(
            (kind, "path")
            for kind in (
                *("Component", "ModelComponent", "LossComponent", "OptimizerComponent", "SchedulerComponent"),
                *("DatasetComponent", "HookComponent"),
            )
        ),
    }


def test_sections_of_the_minimal_file_are_in_the_table_of_sections(load):
    assert {split_section(name)[0] for name in tomli.loads(MINIMAL)} < set(SECTIONS)


def test_loading_a_config_does_not_import_torch(write):
    program = f"""
        import sys
        from audiozen_core.config.load import load_config
        load_config({str(write(MINIMAL))!r}).config
        assert "torch" not in sys.modules and "numpy" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


TRAINING_SETS = MINIMAL.replace(
    '[dataset]\npath = "mix"\n',
    '[[dataset]]\npath = "mix"\ndataloader = {batch_size = 4, collate_fn = "a.b"}\n[[dataset]]\npath = "mix"\n',
)


@pytest.mark.parametrize(
    "second",
    [
        "",
        'dataloader = {batch_size = 4, collate_fn = "a.b"}',
        'dataloader = {collate_fn = {path = "a.b"}, batch_size = 4, num_workers = 0}',
    ],
)
def test_second_training_set_may_omit_or_repeat_the_dataloader_of_the_first(load, second):
    first, _ = load(TRAINING_SETS + second).config.datasets["train"]
    assert first.dataloader.batch_size == 4


@pytest.mark.parametrize(
    "second",
    [
        "dataloader = {}",
        "dataloader.batch_size = 4",
        'dataloader = {batch_size = 8, collate_fn = "a.b"}',
        'dataloader = {batch_size = 4, collate_fn = "a.c"}',
        'dataloader = {batch_size = 4, collate_fn = {path = "a.b", args = {x = 1}}}',
        'dataloader = {batch_size = 4, collate_fn = "a.b", sampler = "c.d"}',
    ],
)
def test_second_training_set_with_a_different_dataloader_is_an_error(load, second):
    with pytest.raises(ConfigError) as caught:
        _ = load(TRAINING_SETS + second).config
    (finding,) = caught.value.diagnostics
    line = TRAINING_SETS.count("\n") + 1
    assert (finding.code, finding.span.line, finding.span.column) == ("AZ113", line, 1)
    assert finding.message.startswith("`dataset[1].dataloader` would be ignored")
    first = TRAINING_SETS.splitlines().index('dataloader = {batch_size = 4, collate_fn = "a.b"}') + 1
    (note,) = finding.notes
    assert note.endswith(f":{first}:1")


def test_each_validation_set_has_its_own_dataloader(load):
    text = MINIMAL + "".join(f'[[validate_dataset]]\npath = "mix"\ndataloader.batch_size = {size}\n' for size in (2, 3))
    assert [dataset.dataloader.batch_size for dataset in load(text).config.datasets["validate"]] == [2, 3]


@pytest.mark.parametrize(
    ("section", "key", "note"),
    [
        ("meta", "compile = true", "help: `compile` belongs in [model]"),
        ("model", "num_threads = 2", "help: `num_threads` belongs in [meta]"),
        ("trainer", "name = 1", "help: arguments belong in [trainer.args]"),
        ("optimizer", "momentum = 0.9", "help: arguments belong in [optimizer.args]"),
    ],
)
def test_unknown_key_of_another_section_is_sent_there(findings, section, key, note):
    found = findings(MINIMAL.replace(f"[{section}]\n", f"[{section}]\n{key}\n"))
    assert [(one.code, one.notes) for one in found] == [(config_codes.UNKNOWN_KEY, (note,))]
