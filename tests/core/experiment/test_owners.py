"""A component of a plugin that answers wrongly is named with its section, its distribution and the line of its code."""
# ruff: noqa: F811 - fixtures

from __future__ import annotations

import gc
import weakref
from textwrap import dedent

import pytest
import torch

from audiozen_core.errors import AudioZenError
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.kinds import GROUPS
from tests.installed import install, site  # noqa: F401 - fixtures
from tests.tiny_experiment import PARTS, TinyExperiment
from tests.tiny_training import TinyTrainer, make_loader, make_trainer

MODEL = ('path = "torch.nn.Linear"', 'path = "wrong"')
LOSS = ('path = "torch.nn.MSELoss"', 'path = "wrong"')
OPTIMIZER = ('path = "torch.optim.Adam"', 'path = "wrong"')
SCHEDULER = ("args.lr = 0.1", 'args.lr = 0.1\n[lr_scheduler]\npath = "wrong"')
DATASET = ('[dataset]\npath = "parts.Data"', '[dataset]\npath = "wrong"')
VALIDATION = ('[validate_dataset]\npath = "parts.Data"', '[[validate_dataset]]\npath = "wrong"')
TRAINER = ('path = "parts.Trainer"', 'path = "wrong"')
METRIC = ('path = "parts.Trainer"', 'path = "parts.Rates"')
METRIC_TABLE = ("max_epochs = 2", 'max_epochs = 2\nmetric = {path = "wrong"}')
METRIC_NAME = ("max_epochs = 2", 'max_epochs = 2\nmetric = "wrong"')


def of_loader(key):
    size = "" if key == "batch_sampler" else "dataloader.batch_size = 2\n"
    old = '[dataset]\npath = "parts.Data"\ndataloader.batch_size = 2\n'
    return (old, f'[dataset]\npath = "parts.Data"\n{size}dataloader.{key}.path = "acme_parts.Wrong"\n')


def model(answer):
    return "model", f"class Wrong(nn.Linear):\n    def forward(self, x):\n        return {answer}"


def loss(answer):
    return "loss_function", f"class Wrong(nn.MSELoss):\n    def forward(self, x, y):\n        return {answer}"


def plain_loss(answer):
    return "loss_function", f"def Wrong(x, y):\n    return {answer}"


def trainer(method, answer):
    return "trainer", f"class Wrong(Trainer):\n    def {method}(self, *args):\n        return {answer}"


def dataset(answer, more=""):
    return "dataset", (
        f"class Wrong(torch.utils.data.Dataset):\n    def __len__(self):\n        return 4\n"
        f"    def __getitem__(self, index):\n        return {answer}\n{more}"
    )


def metric(answer):
    return "metric", (
        'class Wrong:\n    name, label, unit, higher_is_better = "mine", "Mine", "", True\n'
        f"    def __call__(self, estimate, reference, *, sr):\n        return {answer}"
    )


def sampler(answer):
    return "sampler", (
        "class Wrong(torch.utils.data.Sampler):\n    def __init__(self, data_source):\n        pass\n"
        f"    def __len__(self):\n        return 1\n    def __iter__(self):\n        return iter({answer})"
    )


def collate(answer):
    return "collate_fn", f"def Wrong(samples):\n    return {answer}"


def optimizer(method, answer):
    return "optimizer", f"class Wrong(torch.optim.SGD):\n    def {method}(self, *args):\n        {answer}"


def scheduler(method, answer):
    return "lr_scheduler", (
        f"class Wrong(torch.optim.lr_scheduler.LRScheduler):\n    def {method}(self, *args):\n        {answer}"
    )


CASES = {
    "model None": (model("None"), [MODEL], "[model]", "returned by [model]: None"),
    "model tuple": (model("(x, x)"), [MODEL], "[model]", "returned by [model]: a tuple of (float32 [2, 4], "),
    "model string": (model("'speech'"), [MODEL], "[model]", "returned by [model]: str"),
    "model shape": (model("x[None, :1, :3]"), [MODEL], "[model]", "returned by [model]: float32 [1, 1, 3]"),
    "loss float": (loss("0.5"), [LOSS], "[loss_function]", "`loss` is a float"),
    "loss None": (loss("None"), [LOSS], "[loss_function]", "returned by [loss_function]: None"),
    "loss shape": (loss("x - y"), [LOSS], "[loss_function]", "`loss` is a tensor of shape [2, 1]"),
    "loss gradient": (
        loss("(x - y).detach().mean()"), [LOSS], "[loss_function]",
        "returned by [loss_function]: float32 [], without a gradient",
    ),
    "plain loss": (plain_loss("0.5"), [LOSS], "[loss_function]", "returned by [loss_function]: float"),
    "loss torch raises": (loss("torch.stack([x, y[:1]])"), [LOSS], "", "stack expects each tensor to be equal size"),
    "trainer None": (trainer("training_step", "None"), [TRAINER], "[trainer]", "step: Wrong.training_step of ["),
    "trainer number": (trainer("training_step", "1.0"), [TRAINER], "[trainer]", "`loss` is a float"),
    "epoch end": (trainer("training_epoch_end", "5"), [TRAINER], "[trainer]", "training_epoch_end returned an int"),
    "score": (trainer("validation_epoch_end", "'good'"), [TRAINER], "[trainer]", "validation_epoch_end returned a str"),
    "batch": (trainer("prepare_batch", "None"), [TRAINER], "[trainer]", "'NoneType' object is not subscriptable"),
    "sample None": (dataset("None"), [DATASET], "[dataset]", "the samples can't be joined into a batch"),
    "sample text": (dataset("{'x': 'a', 'y': 'b'}"), [DATASET], "[dataset]", "data: the batch is from [dataset]"),
    "sample array": (dataset("None"), [VALIDATION], "[validate_dataset.0]", "can't be joined into a batch"),
    "own collate": (
        dataset("torch.ones(4)", "    def collate_fn(self, samples):\n        return 'batch'"), [DATASET], "[dataset]",
        "data: the batch is from [dataset], made by `collate_fn`",
    ),
    "collate None": (
        collate("None"), [of_loader("collate_fn")], "[dataset.dataloader.collate_fn]",
        "`Wrong` returned None instead of a batch",
    ),
    "collate text": (
        collate("'batch'"), [of_loader("collate_fn")], "[dataset.dataloader.collate_fn]",
        "data: the batch is from [dataset], made by `Wrong`",
    ),
    "sampler negative": (sampler("[-1]"), [of_loader("sampler")], "[dataset.dataloader.sampler]", "the index -1"),
    "sampler far": (sampler("[99]"), [of_loader("sampler")], "[dataset.dataloader.sampler]", "sample 99 of [dataset]"),
    "batch sampler": (
        sampler("[7]"), [of_loader("batch_sampler")], "[dataset.dataloader.batch_sampler]", "of [dataset] yields 7",
    ),
    "optimizer": (
        optimizer("step", "self.param_groups[0]['params'][0].add_(torch.ones(7))"), [OPTIMIZER], "[optimizer]",
        "[optimizer] Wrong can't step",
    ),
    "scheduler": (scheduler("get_lr", "return None"), [SCHEDULER], "[lr_scheduler]", "can't be built: `wrong` raised"),
    "scheduler later": (
        scheduler("get_lr", "return [0.1] if self.last_epoch < 1 else 5"), [SCHEDULER], "[lr_scheduler]",
        "[lr_scheduler] Wrong can't step",
    ),
    "metric None": (metric("None"), [METRIC, METRIC_NAME], "the metric `wrong`", "`mine` returns None for `a`"),
    "metric text": (metric("'nan'"), [METRIC, METRIC_NAME], "the metric `wrong`", "`mine` returns a str for `a`"),
    "metric array": (
        metric("estimate"), [METRIC, METRIC_TABLE], "[trainer.args.metric]",
        "`mine` returns a Tensor of shape [4] for `a`",
    ),
}  # fmt: skip

RATES = """
from audiozen_core.scoring.chosen import MetricSpec, build_metric
from audiozen_core.scoring.rating import Rater


class Rates(Trainer):
    def __init__(self, components, *, metric: MetricSpec, **kwargs):
        super().__init__(components, **kwargs)
        self.rater = Rater([build_metric(metric)], 16000)

    def validation_step(self, batch, batch_idx, dataloader_idx):
        x = batch["x"][0]
        self.rater.rate("a", {"clean": x, "noisy": x + x.flip(0), "enhanced": x.roll(1)})
"""


def failure(folder, *changes):
    """Returns the error of a run."""
    path = TinyExperiment(folder, RATES).write(*changes)
    with pytest.raises(AudioZenError) as caught:
        Experiment.load(path).run()
    return caught.value


@pytest.mark.parametrize("case", CASES)
def test_component_that_answers_wrongly_is_named_with_section_distribution_and_line(case, install, tmp_path):
    (kind, source), changes, where, message = CASES[case]

    # Samplers and collate functions have no entry points, so they are named by a dotted import from a plugin.
    group = kind if kind in GROUPS else "model"
    lines = f"import torch\nfrom torch import nn\nfrom acme_base import Trainer\n\n\n{dedent(source)}\n"
    install("acme", {"acme_parts": lines, "acme_base": PARTS}, **{group: {"wrong": "acme_parts:Wrong"}})
    error = failure(tmp_path, *changes)
    assert message in str(error)
    if where:
        line = f"component: {where} is `Wrong` of acme 1.0, defined in {tmp_path}/site/acme_parts.py:6"
        assert [note for note in error.notes if " of acme 1.0" in note] == [line]
    else:
        assert "distribution: acme 1.0" in error.notes


def test_components_that_answer_rightly_and_those_of_audiozen_are_not_named(install, tmp_path):
    text = f"import torch\nfrom torch import nn\n\n\n{loss('0.5')[1]}\n\n\nclass Hook:\n    pass\n"
    install(
        "acme", {"acme_parts": text}, loss_function={"wrong": "acme_parts:Wrong"}, hooks={"fine": "acme_parts:Hook"}
    )
    hooks = ("[dataset]", '[[hooks]]\npath = "fine"\n[dataset]')
    error = failure(tmp_path, LOSS, hooks)
    assert [note for note in error.notes if note.startswith("component: ") and "[loss_function]" in note] == [
        f"component: [loss_function] is `Wrong` of acme 1.0, defined in {tmp_path}/site/acme_parts.py:5"
    ]
    assert not any(" of audiozen" in note for note in error.notes)
    assert not any(note.startswith("distribution: ") for note in error.notes)


@pytest.mark.parametrize(
    ("source", "change", "where"),
    [
        (model("None")[1], ("torch.nn.Linear", "own.Wrong"), "[model]"),
        (loss("0.5")[1], ("torch.nn.MSELoss", "own.Wrong"), "[loss_function]"),
        (trainer("training_step", "None")[1], ("parts.Trainer", "own.Wrong"), "[trainer]"),
        (
            dataset("{'x': 'a', 'y': 'b'}")[1],
            ('[dataset]\npath = "parts.Data"', '[dataset]\npath = "own.Wrong"'),
            "[dataset]",
        ),
    ],
)
def test_component_beside_the_toml_file_is_named_with_section_and_line(source, change, where, tmp_path):
    lines = f"import torch\nfrom torch import nn\nfrom parts import Trainer\n\n\n{source}\n"
    (tmp_path / "own.py").write_text(lines)
    error = failure(tmp_path, change)
    assert f"component: {where} is `Wrong`, defined in {tmp_path}/own.py:6" in error.notes
    named = [note for note in error.notes if note.startswith("component: ")]
    assert len(named) == len(set(named))
    assert not any("torch" in note for note in named)


def test_a_check_that_builds_names_the_component_too(install, tmp_path):
    text = f"from torch import nn\n{loss('0.5')[1]}\n"
    install("acme", {"acme_parts": text}, loss_function={"wrong": "acme_parts:Wrong"})
    experiment = Experiment.load(TinyExperiment(tmp_path).write(LOSS))
    with pytest.raises(AudioZenError) as caught:
        dry_run(experiment)
    assert any(note.startswith("component: [loss_function] is `Wrong` of acme 1.0") for note in caught.value.notes)


def test_a_step_forgets_what_the_step_before_has_returned(tmp_path):
    sometimes = "\n\nclass Breaks(Trainer):\n    def training_step(self, batch, batch_idx):\n        "
    sometimes += "return super().training_step(batch, batch_idx) if batch_idx < 1 else None\n"
    path = TinyExperiment(tmp_path, sometimes).write(("parts.Trainer", "parts.Breaks"))
    with pytest.raises(AudioZenError) as caught:
        Experiment.load(path).run()
    assert "step: Breaks.training_step of [trainer]" in caught.value.notes
    assert not any(note.startswith("returned by") for note in caught.value.notes)


@pytest.mark.parametrize("plain", [False, True])
def test_nothing_keeps_what_a_network_or_a_loss_returns(plain):
    """Otherwise the graph of a step would stay in memory until the next step."""
    kept = []

    class Looks(TinyTrainer):
        def training_step(self, batch, batch_idx):
            error = self.loss_function(self.model(batch["x"]), batch["y"])
            kept.append(weakref.ref(error))
            return {"loss": error}

    function = torch.nn.functional.mse_loss if plain else torch.nn.MSELoss()
    trainer = make_trainer(cls=Looks, loss=function)
    losses, outputs = trainer.forward_batch(next(iter(make_loader().epoch(1))), 0)
    assert trainer.participants.notes(of_batch=False)[-1] == "returned by [loss_function]: float32 []"
    del losses, outputs
    gc.collect()
    assert kept[0]() is None
