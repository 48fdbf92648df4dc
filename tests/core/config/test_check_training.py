"""`check` finds what would stop a training although each component is right by itself, and says where."""

from __future__ import annotations

import pytest

from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError, RunError
from tests.tiny_experiment import TOML, TinyExperiment

PARTS = """
class Lower(Trainer):
    def __init__(self, components, *, save_max_score: bool = False, **kwargs):
        super().__init__(components, save_max_score=save_max_score, **kwargs)


class Own(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})

    def step(self, closure):
        closure()


class Plateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
    pass


class FixedPlateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
    def __init__(self, optimizer, mode_of_ours: str = "best"):
        super().__init__(optimizer, mode="max")


class FixedLower(Trainer):
    def __init__(self, components, **kwargs):
        super().__init__(components, save_max_score=False, **kwargs)


class Untyped(torch.optim.lr_scheduler.LambdaLR):
    def __init__(self, optimizer, factor):
        super().__init__(optimizer, factor)


class Typed(Untyped):
    def __init__(self, optimizer, factor: "callable"):
        super().__init__(optimizer, factor)


def warm(epoch):
    return min(1.0, (epoch + 1) / 4)


class UsesHelper(BaseTrainer):
    def training_step(self, batch, batch_idx):
        return {f"loss_{name}": self.error(net, batch) for name, net in self.models.items()}

    def error(me, net, batch):
        return me.loss_function(net(batch["x"]), batch["y"])


class Overrides(UsesHelper):
    def error(self, net, batch):
        return self.loss_functions["g"](net(batch["x"]), batch["y"])


class UsesProperty(Overrides):
    @property
    def rate(self):
        return [group["lr"] for group in self.optimizer.param_groups]


class FailsToCheck(Trainer):
    @classmethod
    def check_settings(cls, args, *, acoustics, dataset_names):
        yield Diagnostic("AZ106", "a finding before the failure", "warning", place=("args", "max_epochs"))
        raise KeyError("lambda")


class Inherits(BaseTrainer):
    def training_step(self, batch, batch_idx):
        return {"loss_g": self.models["g"](batch["x"]).square().mean()}

    def explain(self):
        return self.model


class OwnProperties(Overrides):
    @property
    def model(self):
        return self.models["g"]

    @property
    def loss_function(self):
        return self.loss_functions["g"]

    def training_step(self, batch, batch_idx):
        return {"loss_g": self.loss_function(self.model(batch["x"]), batch["y"])}


class InheritsProperties(OwnProperties):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) | {"level": self.model.weight.mean()}


class AsksFirst(Overrides):
    def training_step(self, batch, batch_idx):
        net = self.models["g"] if "g" in self.models else self.model
        loss = self.loss_functions.get("g") or self.loss_function
        return {"loss_g": loss(net(batch["x"]), batch["y"])}


class ReturnsFirst(Overrides):
    def training_step(self, batch, batch_idx):
        if "g" in self.models:
            return {"loss_g": self.error(self.models["g"], batch)}
        return self.loss_function(self.model(batch["x"]), batch["y"])


class Tries(Overrides):
    def training_step(self, batch, batch_idx):
        try:
            net = self.model
        except Exception:
            net = self.models["g"]
        return {"loss_g": self.error(net, batch)}


class AsksSomethingElse(Overrides):
    def training_step(self, batch, batch_idx):
        for name in self.models:
            if name == "d":
                raise ValueError
            with torch.no_grad():
                level = 0 if batch_idx else 1
            if self.model(batch["x"]).mean() > level:
                return {"loss_g": self.error(self.models[name], batch)}


class Assigns(Overrides):
    def __init__(self, components, **kwargs):
        super().__init__(components, **kwargs)
        other = self.models["g"]
        self.count = other.model = 1
"""
OPTIMIZER = 'path = "torch.optim.Adam"\nargs.lr = 0.1\n'
TWO = """\
[meta]
save_dir = "exp"
[trainer]
path = "parts.UsesHelper"
[model_g]
path = "torch.nn.Linear"
args = {in_features = 4, out_features = 1}
[model_d]
path = "torch.nn.Linear"
args = {in_features = 4, out_features = 1}
[loss_function_g]
path = "torch.nn.MSELoss"
[optimizer_g]
path = "torch.optim.Adam"
[dataset]
path = "parts.Data"
"""


@pytest.fixture
def findings(tmp_path):
    tiny = TinyExperiment(tmp_path, PARTS)

    def check(*changes, text=TOML):
        """Returns each error and warning, with its line."""
        path = tiny.write(*changes, text=text)
        try:
            found = check_config(load_config(path)).warnings
        except ConfigError as error:
            found = error.diagnostics
        return [(path.read_text().splitlines()[finding.span.line - 1], finding) for finding in found]

    return check


def scheduler(text, optimizer=OPTIMIZER):
    return OPTIMIZER, f"{optimizer}[lr_scheduler]\n{text}\n"


@pytest.mark.parametrize("path", ["torch.optim.LBFGS", "parts.Own"])
def test_optimizer_that_needs_a_closure_is_reported_at_its_path(findings, path):
    ((line, finding),) = findings((OPTIMIZER, f'path = "{path}"\n'))
    assert line == f'path = "{path}"'
    assert (finding.code, "needs a closure" in finding.message) == ("AZ149", True)


PLATEAU = 'path = "torch.optim.lr_scheduler.ReduceLROnPlateau"'


def test_plateau_with_its_default_mode_is_reported_at_its_path(findings):
    ((line, finding),) = findings(scheduler(PLATEAU))
    assert line == PLATEAU
    assert '`mode` of ReduceLROnPlateau is "min" by default' in finding.message
    assert 'set `mode = "max"` in [lr_scheduler.args]' in finding.label


@pytest.mark.parametrize("path", ["torch.optim.lr_scheduler.ReduceLROnPlateau", "parts.Plateau"])
def test_plateau_with_a_wrong_mode_or_interval_is_reported_at_the_value(findings, path):
    found = findings(scheduler(f'path = "{path}"\ninterval = "step"\nargs.mode = "min"'))
    assert [line for line, _ in found] == ['interval = "step"', 'args.mode = "min"']
    assert [finding.suggestion for _, finding in found] == ['"epoch"', '"max"']


def test_plateau_within_another_scheduler_is_reported(findings):
    nested = f'path = "torch.optim.lr_scheduler.ChainedScheduler"\nargs.schedulers = [{{{PLATEAU}}}]'
    ((line, finding),) = findings(scheduler(nested))
    assert line.startswith("args.schedulers")
    assert "can't be a part of `torch.optim.lr_scheduler.ChainedScheduler`" in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        [scheduler(f'{PLATEAU}\nargs.mode = "max"')],
        [scheduler(PLATEAU), ("max_epochs = 2", "max_epochs = 2\nsave_max_score = false")],
        [scheduler(PLATEAU), ("parts.Trainer", "parts.Lower")],
        [scheduler('path = "parts.FixedPlateau"')],
        [scheduler(f'{PLATEAU}\nargs.mode = "max"'), ("parts.Trainer", "parts.FixedLower")],
        [scheduler('path = "torch.optim.lr_scheduler.StepLR"\ninterval = "step"\nargs.step_size = 2')],
        [(OPTIMIZER, 'path = "torch.optim.SGD"\n')],
    ],
    ids=[
        "mode",
        "lower scores",
        "trainer with lower scores",
        "mode of the class",
        "direction of the class",
        "StepLR",
        "SGD",
    ],
)
def test_what_fits_is_not_reported(findings, changes):
    assert findings(*changes) == []


@pytest.mark.parametrize(
    ("trainer", "attribute"),
    [("UsesHelper", "loss_function"), ("UsesProperty", "optimizer"), ("AsksSomethingElse", "model")],
)
def test_part_that_the_trainer_uses_without_its_suffix_is_reported(findings, trainer, attribute):
    ((line, finding),) = findings(("UsesHelper", trainer), text=TWO)
    assert line == f'path = "parts.{trainer}"'
    assert f"uses `self.{attribute}`, but instead of `[{attribute}]` the file has [" in finding.message
    assert finding.severity == "warning"
    assert "parts.py:" in finding.notes[0]
    assert f"self.{attribute}s[" in finding.notes[1]


def test_first_party_trainer_with_suffixes_only_is_reported(findings):
    found = findings(("parts.UsesHelper", "enhancement"), text=TWO)
    assert {finding.message.split("`")[3] for _, finding in found} == {"self.model", "self.loss_function"}


def test_method_that_is_never_called_is_no_error(tmp_path):
    tiny = TinyExperiment(tmp_path, PARTS)
    tiny.run(("UsesHelper", "Inherits"), text=TWO, overrides=["+trainer.args.max_epochs=1"])


@pytest.mark.parametrize(
    ("path", "trainer", "fits"),
    [
        ("parts.FixedPlateau", "Trainer", True),
        ("parts.FixedPlateau", "FixedLower", False),
        ("torch.optim.lr_scheduler.ReduceLROnPlateau", "FixedLower", True),
    ],
)
def test_run_compares_the_mode_that_a_class_sets_itself(tmp_path, path, trainer, fits):
    changes = [scheduler(f'path = "{path}"'), ("parts.Trainer", f"parts.{trainer}")]
    tiny = TinyExperiment(tmp_path, PARTS)
    if fits:
        tiny.run(*changes)
    else:
        with pytest.raises(RunError, match='`mode` of ReduceLROnPlateau is "max"'):
            tiny.run(*changes)


@pytest.mark.parametrize(
    "trainer",
    ["Overrides", "Assigns", "OwnProperties", "InheritsProperties", "AsksFirst", "ReturnsFirst", "Tries"],
)
def test_trainer_for_several_networks_is_not_reported(findings, trainer):
    assert findings(("UsesHelper", trainer), text=TWO) == []
    assert findings(("[loss_function_g]", "[loss_function]"), text=TWO) == []


def test_check_settings_that_fails_is_a_warning_with_its_place(tmp_path):
    path = TinyExperiment(tmp_path, "from audiozen_core.diagnostics.diagnostic import Diagnostic\n" + PARTS).write(
        ("parts.Trainer", "parts.FailsToCheck")
    )
    failure, before = check_config(load_config(path)).warnings
    assert before.message == "a finding before the failure"
    assert (failure.code, failure.severity) == ("AZ150", "warning")
    assert failure.message == "`check_settings` of `parts.FailsToCheck` failed: KeyError: 'lambda'"
    assert "in check_settings" in failure.notes[0]
    assert "[trainer]" in path.read_text().splitlines()[failure.span.line - 1]


def test_function_for_an_argument_without_an_annotation_gets_a_hint(findings, tmp_path):
    ((_, finding),) = findings(scheduler('path = "parts.Untyped"\nargs.factor = { path = "parts.warm" }'))
    assert finding.message == "missing argument `epoch` for parts.warm"
    assert "annotate `factor` in the signature of parts.Untyped: `factor: Callable`" in finding.notes[-1]
    assert not findings(scheduler('path = "parts.Typed"\nargs.factor = { path = "parts.warm" }'))
    ((_, other),) = findings(scheduler('path = "parts.Untyped"\nargs.factor = { path = "torch.nn.Linear" }'))[:1]
    assert not any("annotate" in note for note in other.notes)
    TinyExperiment(tmp_path, PARTS).run(scheduler('path = "parts.Typed"\nargs.factor = { path = "parts.warm" }'))


EXTRA = ("[optimizer]", '[loss_function_fn]\npath = "torch.nn.L1Loss"\n[optimizer]')


@pytest.mark.parametrize("trainer", ["parts.Trainer", "enhancement"])
def test_loss_function_that_nobody_uses_is_reported(findings, trainer):
    found = findings(EXTRA, ("parts.Trainer", trainer))
    ((line, finding),) = [entry for entry in found if "loss_function" in entry[0]]
    assert line == "[loss_function_fn]"
    assert (finding.code, finding.severity) == ("AZ108", "warning")
    assert "`[loss_function_fn]` is not used: no model has the suffix `fn`" in finding.message


@pytest.mark.parametrize(
    "step",
    [
        'self.loss_functions["fn"]',
        'self.loss_functions.get("fn")',
        'self.loss_functions["fn" if batch_idx else ""]',
        "next(iter(self.loss_functions.values()))",
        'getattr(self, "loss_functions")["fn"]',
        "helper(self)",
        "helper(trainer=self)",
    ],
)
def test_loss_function_that_a_trainer_may_use_is_not_reported(tmp_path, step):
    code = f"""
class Uses(Trainer):
    def training_step(self, batch, batch_idx):
        return {{"loss": ({step})(self.model(batch["x"]), batch["y"])}}
"""
    path = TinyExperiment(tmp_path, code).write(EXTRA, ("parts.Trainer", "parts.Uses"))
    assert check_config(load_config(path)).warnings == ()


@pytest.mark.parametrize("args", ["[[model.args]]\nin_features = 4\nout_features = 1", "[model]\nargs = 3"])
def test_args_that_are_no_table_are_one_mistake(findings, args):
    model = args if args.startswith("[model]") else "[model]"
    more = "" if args.startswith("[model]") else args
    text = TOML.replace("[model]", model).replace("args = {in_features = 4, out_features = 1}", more)
    ((line, finding),) = findings(text=text)
    assert (line, finding.code) == (args.splitlines()[1 if more == "" else 0], "AZ105")
    if more:
        assert finding.label == "write `[model.args]`, with one pair of brackets"


def test_metric_in_a_module_that_cannot_be_imported_is_one_mistake(tmp_path, findings):
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    change = ("max_epochs = 2", 'max_epochs = 2\nmetrics = [{ path = "broken.Metric" }]')
    ((line, finding),) = findings(change, ("parts.Trainer", "enhancement"))
    assert line.startswith("metrics")
    assert finding.code == "AZ207"


def findings_of(tmp_path, trainer, modes, *changes):
    path = TinyExperiment(tmp_path, PARTS).write(("parts.Trainer", f"parts.{trainer}"), *changes)
    try:
        found = check_config(load_config(path, (), modes)).warnings
    except ConfigError as error:
        found = error.diagnostics
    return [(f.code, path.read_text().splitlines()[f.span.line - 1], f.message) for f in found]


NO_VALIDATION = ('[validate_dataset]\npath = "parts.Data"\ndataloader.batch_size = 2\n', "")


@pytest.mark.parametrize(
    ("modes", "changes", "missing"),
    [
        (["test"], (), ["test_step", "test_epoch_end"]),
        (["validate"], (), ["validation_step", "validation_epoch_end"]),
        (["predict"], (("[test_dataset]", "[predict_dataset]"),), ["predict_step"]),
        (["train"], (), ["validation_step", "validation_epoch_end"]),
        (["train"], (NO_VALIDATION,), []),
        (["train", "test"], (NO_VALIDATION,), ["test_step", "test_epoch_end"]),
        ([], (), []),
    ],
)
def test_step_that_a_mode_needs_is_reported_at_the_path_of_the_trainer(tmp_path, modes, changes, missing):
    found = findings_of(tmp_path, "UsesHelper", modes, *changes)
    assert found == [
        ("AZ149", 'path = "parts.UsesHelper"', f"UsesHelper does not define `{method}`, which this mode needs")
        for method in missing
    ]


def test_trainer_with_all_steps_is_not_reported(tmp_path):
    assert findings_of(tmp_path, "Trainer", ["train", "validate", "test"]) == []
    assert findings_of(tmp_path, "Lower", ["train", "test"]) == []  # it inherits the steps
