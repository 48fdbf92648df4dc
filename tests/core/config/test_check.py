"""The components of a config are checked against the classes and functions that their paths refer to."""

import subprocess
import sys
import textwrap

import pytest

from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError
from audiozen_core.registry.entry import Entry
from audiozen_core.registry.index import PluginIndex

# The content of `parts.py`, a module next to the TOML files of these tests.
PARTS = """
import abc
import torch
from audiozen_core.trainer.base_trainer import BaseTrainer


class Trainer(BaseTrainer):
    def __init__(self, components, max_epochs: int = 1, metrics=()):
        pass

    def training_step(self, batch, batch_idx): ...


class Net(torch.nn.Module):
    def __init__(self, width: int = 8, n_fft: int = 512, encoder=None, rates: list[float] | None = None):
        raise AssertionError("a check must not build components")


class Data(torch.utils.data.Dataset):
    def __init__(self, root: str):
        pass


class Encoder:
    def __init__(self, depth: int):
        pass


class Abstract(torch.nn.Module, abc.ABC):
    @abc.abstractmethod
    def encode(self): ...


class Hook:
    def __init__(self, interval: int = 1):
        pass


class Sampler:
    def __init__(self, data_source, replacement: bool = False):
        pass


def collate(samples, pad: int = 0): ...


def loss(estimate, target, weight: float = 1.0): ...


def by_position(x, /): ...


number = 3
"""

VALID = """\
[meta]
save_dir = "exp"
[trainer]
path = "parts.Trainer"
[model]
path = "parts.Net"
[loss_function]
path = "torch.nn.MSELoss"
[optimizer]
path = "torch.optim.RAdam"
[optimizer.args]
lr = 1
betas = [0.9, 0.99]
[lr_scheduler]
path = "torch.optim.lr_scheduler.StepLR"
args = {step_size = 3}
[dataset]
path = "parts.Data"
args.root = "x"
[dataset.dataloader]
collate_fn = "parts.collate"
sampler = {path = "parts.Sampler", args = {replacement = true}}
[[hooks]]
path = "parts.Hook"
"""


def findings_in(loaded, **options):
    try:
        return list(check_config(loaded, **options).warnings)
    except ConfigError as error:
        return list(error.diagnostics)


@pytest.fixture
def write(tmp_path):
    (tmp_path / "parts.py").write_text(PARTS)

    def write(text, name="exp.toml"):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def findings(write):
    def findings(text, *overrides, **options):
        return findings_in(load_config(write(text), overrides), **options)

    return findings


def summary(finding):
    return finding.code, finding.span.line, finding.span.column, finding.suggestion


def test_valid_file_has_no_findings(findings):
    assert findings(VALID) == []


def test_misspelt_argument_is_reported_with_a_suggestion_and_the_signature(findings):
    text = VALID.replace("lr = 1\n", "lr = 1\nweight_decy = 1e-5\n")
    (finding,) = findings(text)
    assert summary(finding) == ("AZ140", 13, 1, "weight_decay")
    assert finding.message == "unknown argument `weight_decy` for torch.optim.RAdam"
    assert finding.label == "did you mean `weight_decay`?"
    assert finding.notes[0].startswith("signature: RAdam(params, lr=0.001")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("lr = 1", "lr = 'fast'", ("AZ144", 12, 6)),
        ("lr = 1", "params = 1", ("AZ142", 12, 1)),
        ("0.99]", "'x']", ("AZ144", 13, 15)),
        ("step_size = 3", "step_siz = 3", ("AZ140", 16, 9)),
        ("step_size = 3", "", ("AZ141", 16, 8)),
        ("{step_size = 3}", "{step_size = 3, optimizer = 1}", ("AZ142", 16, 24)),
        ('args.root = "x"', "", ("AZ141", 17, 1)),
        ('args.root = "x"', "args.root = 1", ("AZ144", 19, 13)),
        ('args.root = "x"', '"args" . \'rot\' = "x"', ("AZ140", 19, 10)),
        ("torch.optim.RAdam", "torch.optim.RAdm", ("AZ206", 10, 8)),
        ("torch.optim.RAdam", "torch.optim", ("AZ208", 10, 8)),
        ("torch.optim.RAdam", "torch.nn.Linear", ("AZ146", 10, 8)),
        ("torch.optim.RAdam", "parts", ("AZ203", 10, 8)),
        ("torch.optim.RAdam", "", ("AZ202", 10, 8)),
        ("torch.optim.RAdam", "no.such.module", ("AZ205", 10, 8)),
        ("parts.Net", "parts.Abstract", ("AZ147", 6, 8)),
        ("parts.Net", "parts.number", ("AZ145", 6, 8)),
        ("parts.Net", "parts.Encoder", ("AZ146", 6, 8)),
        ("torch.nn.MSELoss", "parts.by_position.nothing", ("AZ206", 8, 8)),
        ("replacement = true", "replacment = true", ("AZ140", 22, 44)),
        ("parts.collate", "parts.colate", ("AZ206", 21, 14)),
        ("parts.Sampler", "parts.Smpler", ("AZ206", 22, 19)),
        ("parts.Hook", "parts.Hok", ("AZ206", 24, 8)),
    ],
)
def test_each_mistake_is_reported_with_its_code_and_position(findings, old, new, expected):
    assert VALID.count(old) == 1
    result = findings(VALID.replace(old, new))
    assert [summary(finding)[:3] for finding in result] == [expected]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("encoder = {path = 'parts.Encoder', args = {depth = 3}}", []),
        ("encoder = {path = 'parts.Encodr', args = {depth = 3}}", [("AZ206", 7, 24)]),
        ("encoder = {path = 'parts.Encoder', args = {dept = 3}}", [("AZ140", 7, 49)]),
        ("encoder = {path = 'parts.Encoder'}", [("AZ141", 7, 16)]),
        ("encoder = {path = 'parts.Encoder', args = 3}", [("AZ105", 7, 48)]),
        (
            "encoder = {path = 'parts.Encoder', args = {depth = {path = 'parts.Hook', args = {x = 1}}}}",
            [("AZ140", 7, 87)],
        ),
        ("rates = [1, 2.5]", []),
        ("rates = [1, 'x', true]", [("AZ144", 7, 18), ("AZ144", 7, 23)]),
        ("encoder.list = [1, {path = 'parts.Hok'}]", [("AZ206", 7, 33)]),
    ],
)
def test_components_inside_arguments_are_checked(findings, args, expected):
    result = findings(VALID.replace('path = "parts.Net"', f'path = "parts.Net"\nargs.{args}'))
    assert [summary(finding)[:3] for finding in result] == expected


def test_loss_and_collate_functions_need_only_their_own_arguments(findings):
    text = VALID.replace('"torch.nn.MSELoss"', '"parts.loss"\nargs.weight = 2')
    assert findings(text) == []
    (finding,) = findings(text.replace("weight = 2", "weigt = 2"))
    assert summary(finding) == ("AZ140", 9, 6, "weight")
    text = VALID.replace('"parts.collate"', '{path = "parts.collate", args = {pad = 1}}')
    assert findings(text) == []
    assert summary(findings(text.replace("pad = 1", "pod = 1"))[0]) == ("AZ140", 21, 47, "pad")


def test_mistake_in_an_override_is_located_on_the_command_line(findings):
    (finding,) = findings(VALID, "optimizer.args.lr=fast")
    assert (finding.span.file.name, finding.span.line, finding.span.column) == ("--set", 1, 19)


def test_mistake_in_an_extended_file_is_located_in_that_file(write):
    write(VALID.replace("lr = 1", "lrr = 1"), "base.toml")
    (finding,) = findings_in(load_config(write("extends = 'base.toml'\n")))
    assert (finding.span.file.name, finding.span.line) == ("base.toml", 12)


def test_broken_reference_is_reported_only_once(findings):
    result = findings(VALID, "optimizer.args.lr=${no.thing}", "dataset.args=${no.thing}", "model.path=${no.thing}")
    assert [finding.code for finding in result] == ["AZ133"] * 3


@pytest.mark.parametrize(
    ("acoustics", "args", "expected"),
    [
        ("n_fft = 512", "", []),
        ("n_fft = 1024", "n_fft = 1024", []),
        ("n_fft = 1024", "n_fft = 512", [("AZ107", "error", 9, 9)]),
        ("n_fft = 1024", "", [("AZ107", "warning", 7, 1)]),
        ("sr = 8000", "n_fft = 256", []),
    ],
)
def test_n_fft_of_the_model_must_match_the_acoustics(findings, acoustics, args, expected):
    text = VALID.replace("[model]\n", f"[acoustics]\n{acoustics}\n[model]\n").replace(
        'path = "parts.Net"\n', f'path = "parts.Net"\n{"args." + args if args else ""}\n'
    )
    result = findings(text)
    expected = [
        (code, severity, line, column + 5 if severity == "error" else column)
        for code, severity, line, column in expected
    ]
    assert [(found.code, found.severity, found.span.line, found.span.column) for found in result] == expected


def test_disabled_hook_is_not_imported_but_its_name_must_exist(findings):
    entry = Entry("audiozen.hooks", "tensorboard", "no.such.module:Hook", "acme", "1.0")
    text = VALID + "[[hooks]]\npath = 'tensorboard'\nenabled = false\n"
    index = PluginIndex([entry])
    assert findings(text, index=index) == []
    (finding,) = findings(text.replace("tensorboard", "tensorbord"), index=index)
    assert summary(finding) == ("AZ203", 26, 8, '"tensorboard"')
    assert findings(text.replace("'tensorboard'", "'parts.Nothing'"), index=index) == []


def test_module_that_fails_exits_or_prints_during_import_is_reported(write, findings, capsys, tmp_path):
    (tmp_path / "failing.py").write_text("1 / 0\n")
    (tmp_path / "exiting.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "printing.py").write_text("print('hello')\nfrom parts import Net\n")
    (failing,) = findings(VALID.replace("parts.Net", "failing.Net"))
    assert "ZeroDivisionError" in failing.message
    (exiting,) = findings(VALID.replace("parts.Net", "exiting.Net"))
    assert "sys.exit" in exiting.message
    (printing,) = findings(VALID.replace("parts.Net", "printing.Net"))
    assert (printing.code, printing.severity) == ("AZ148", "warning")
    assert printing.notes == ("output: hello",)
    assert capsys.readouterr().out == ""


def test_check_config_reports_mistakes_in_sections_and_components_together(write):
    text = VALID.replace("lr = 1", "lrr = 1").replace("[meta]", "[meta]\nsede = 3").replace("parts.Hook", "parts.Hok")
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(write(text), ["trainer.args.x=1"]))
    assert [finding.code for finding in caught.value.diagnostics] == ["AZ102", "AZ140", "AZ206", "AZ131"]
    checked = check_config(load_config(write(VALID.replace("loss_function", "loss"))))
    assert [finding.code for finding in checked.warnings] == ["AZ110"]
    assert checked.config.trainer.path == "parts.Trainer"


def test_two_experiments_use_their_own_modules_of_the_same_name(write, tmp_path):
    assert findings_in(load_config(write(VALID))) == []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "parts.py").write_text(PARTS.replace("class Net(", "class Other("))
    (tmp_path / "other" / "exp.toml").write_text(VALID)
    (finding,) = findings_in(load_config(tmp_path / "other" / "exp.toml"))
    assert summary(finding)[:3] == ("AZ206", 6, 8)


def test_check_does_not_import_torch(tmp_path):
    (tmp_path / "parts.py").write_text("class Part:\n    def __init__(self, params=None, root=''): ...\n")
    (tmp_path / "exp.toml").write_text(
        "[meta]\nsave_dir='x'\n"
        + "".join(f"[{name}]\npath='parts.Part'\n" for name in ("trainer", "model", "loss_function", "optimizer"))
        + "[dataset]\npath='parts.Part'\n"
    )
    program = f"""
        import sys
        from audiozen_core.config.check import check_config
        from audiozen_core.config.load import load_config
        from audiozen_core.errors import ConfigError
        try:
            check_config(load_config({str(tmp_path / "exp.toml")!r}))
        except ConfigError as error:
            # The modules of these classes do not import torch, so none of the classes can be a model.
            # The check must find this without importing torch.
            assert [finding.code for finding in error.diagnostics] == ["AZ146"] * 4, error
        else:
            raise AssertionError("the check found nothing")
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
