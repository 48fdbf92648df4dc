"""The table that defines all kinds of sections and components.

To add a kind, add a row. The config reader then accepts its sections, the checker checks its base class, the registry
reads its entry point group, and a trainer finds its components in `components.others`. This module imports neither
torch nor any other module of AudioZEN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

RunMode = Literal["train", "finetune", "validate", "test", "predict"]
"""The modes of `audiozen run --mode`."""

Mode = Literal["train", "validate", "test", "predict"]
"""The modes of a trainer and of data sets. Finetuning uses `train`, because only its initial weights differ."""

Effect = Literal["outputs", "training", "step"]
"""What settings can affect: the outputs of a trained network, its training, or how long a training step takes."""

EFFECTS: tuple[Effect, ...] = ("outputs", "training", "step")
RUN_MODES: tuple[RunMode, ...] = ("train", "finetune", "validate", "test", "predict")
TRAINING: tuple[RunMode, ...] = ("train", "finetune")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of section or component.

    Attributes:
        name: the section's name; the entry point group is `audiozen.<name>`.
        prose: the noun for one component of this kind, for messages.
        group: whether plugins publish such components by entry point.
        section: whether a TOML file may have sections of this kind.
        modes: the mode of each section name; empty if the kind has only one section name.
        needed_in: the modes that need a section of this kind.
        base: the dotted path of the class that a component must be derived from; "" for any class.
        injected: the arguments that AudioZEN passes itself, and that a TOML file must not set. Components of a new kind
            get settings of `[acoustics]`, such as `sr`.
        suffixed: whether a section may have a suffix, as in `model_g`.
        array: whether a section may be an array of tables. The config reader and the builder only support arrays of
            data sets and of hooks. Another array needs code in both.
        partner: the kind of section that a section needs, with the same suffix: `optimizer_g` needs `model_g`.
        called_later: whether a function that `path` names is itself the component, which AudioZEN calls later.
            Otherwise the function is a factory that returns the component.
        affects: what the settings of a section of this kind can affect.
        key: the key that names a component of this kind, if it has no section of its own.
        torch_home: the module of torch that has components of this kind, for suggestions.
        example: the dotted path of a component of this kind, for messages.
        synonyms: the names that other toolkits use for the sections, for suggestions: by section name, separated by
            spaces.
    """

    name: str
    prose: str
    group: bool = True
    section: bool = True
    modes: Mapping[str, Mode] = field(default_factory=dict)
    needed_in: tuple[RunMode, ...] = ()
    base: str = ""
    injected: tuple[str, ...] = ()
    suffixed: bool = False
    array: bool = False
    partner: str = ""
    called_later: bool = False
    affects: tuple[Effect, ...] = EFFECTS
    key: tuple[str, ...] = ()
    torch_home: str = ""
    example: str = ""
    synonyms: Mapping[str, str] = field(default_factory=dict)

    @property
    def with_article(self) -> str:
        """The noun with its article, such as "an optimiser"."""
        return f"{'an' if self.prose[0] in 'aeiou' else 'a'} {self.prose}"

    @property
    def section_names(self) -> tuple[str, ...]:
        """The names that a section of this kind may have in a TOML file, without suffixes."""
        if not self.section:
            return ()
        return tuple(self.modes) or (self.name,)


_ROWS = (
    Kind(
        name="meta",
        prose="section",
        group=False,
        needed_in=RUN_MODES,
        affects=("training",),
        synonyms={"meta": "general global experiment exp project hydra config metadata"},
    ),
    Kind(
        name="trainer",
        prose="trainer",
        needed_in=RUN_MODES,
        base="audiozen_core.trainer.base_trainer.BaseTrainer",
        injected=("components",),
        example="trainer.Trainer",
        synonyms={"trainer": "train training solver runner engine learner lightning pl_trainer recipe"},
    ),
    Kind(
        name="acoustics",
        prose="section",
        group=False,
        synonyms={"acoustics": "audio stft dsp feature features frontend signal spectrogram"},
    ),
    Kind(
        name="distributed",
        prose="section",
        group=False,
        affects=("training",),
        synonyms={"distributed": "ddp parallel data_parallel dist accelerate fsdp nccl torchrun"},
    ),
    Kind(
        name="launcher",
        prose="section",
        group=False,
        affects=(),
        synonyms={"launcher": "slurm sbatch submitit cluster scheduler_options queue launch job"},
    ),
    Kind(
        name="model",
        prose="model",
        needed_in=RUN_MODES,
        base="torch.nn.Module",
        suffixed=True,
        torch_home="torchaudio.models",
        example="torchaudio.models.ConvTasNet",
        synonyms={"model": "net network nnet generator discriminator arch architecture backbone system"},
    ),
    Kind(
        name="loss_function",
        prose="loss function",
        needed_in=TRAINING,
        suffixed=True,
        called_later=True,
        affects=("training", "step"),
        torch_home="torch.nn",
        example="torch.nn.MSELoss",
        synonyms={"loss_function": "criterion criteria objective loss losses loss_fn loss_func"},
    ),
    Kind(
        name="optimizer",
        prose="optimiser",
        needed_in=TRAINING,
        base="torch.optim.Optimizer",
        injected=("params",),
        suffixed=True,
        partner="model",
        affects=("training", "step"),
        torch_home="torch.optim",
        example="torch.optim.RAdam",
        synonyms={"optimizer": "opt optim opt_class"},
    ),
    Kind(
        name="lr_scheduler",
        prose="learning rate scheduler",
        injected=("optimizer",),
        suffixed=True,
        partner="optimizer",
        affects=("training", "step"),
        torch_home="torch.optim.lr_scheduler",
        example="torch.optim.lr_scheduler.StepLR",
        synonyms={"lr_scheduler": "scheduler sched lr_annealing lr_sched learning_rate_scheduler"},
    ),
    Kind(
        name="dataset",
        prose="data set",
        modes={
            "dataset": "train",
            "train_dataset": "train",
            "validate_dataset": "validate",
            "test_dataset": "test",
            "predict_dataset": "predict",
        },
        base="torch.utils.data.Dataset",
        array=True,
        affects=("training", "step"),
        synonyms={
            "dataset": "train training train_data train_set training_dataset training_data training_set data datasets "
            "datamodule",
            "validate_dataset": "val valid validate validation dev eval evaluation val_set valid_set validation_set "
            "dev_set eval_set val_data valid_data validation_data dev_data val_dataset valid_dataset dev_dataset "
            "validation_dataset eval_dataset evaluation_dataset cv cv_dataset",
            "test_dataset": "test testing test_set test_data testing_dataset evaluation eval eval_dataset "
            "evaluation_dataset",
            "predict_dataset": "predict prediction predict_set infer inference infer_dataset inference_dataset enhance",
        },
    ),
    Kind(
        name="hooks",
        prose="hook",
        array=True,
        synonyms={"hooks": "hook callback callbacks plugin plugins logger loggers event_handlers"},
    ),
    Kind(name="metric", prose="metric", section=False, key=("trainer", "args", "metrics")),
    # A function without arguments that returns the folder of an exported network.
    Kind(name="pretrained", prose="pretrained network", section=False),
    Kind(name="commands", prose="command", section=False),
    Kind(name="hookspecs", prose="set of hooks", section=False),
    # The sections that plugins provide. Their names are the names of the components, so they are not in `SECTIONS`.
    Kind(name="section", prose="section", section=False),
    # Keys in the table `dataloader` of a data set.
    Kind(
        name="collate_fn",
        prose="collate function",
        group=False,
        section=False,
        called_later=True,
        key=("dataset", "dataloader", "collate_fn"),
    ),
    Kind(
        name="sampler",
        prose="sampler",
        group=False,
        section=False,
        injected=("data_source",),
        key=("dataset", "dataloader", "sampler"),
    ),
    Kind(
        name="batch_sampler",
        prose="batch sampler",
        group=False,
        section=False,
        injected=("data_source",),
        key=("dataset", "dataloader", "batch_sampler"),
    ),
)

KINDS: dict[str, Kind] = {row.name: row for row in _ROWS}
"""Every kind by name."""

GROUPS: dict[str, Kind] = {row.name: row for row in _ROWS if row.group}
"""The kinds that plugins publish, in the entry point group `audiozen.<name>`."""

SECTIONS: dict[str, Kind] = {name: row for row in _ROWS for name in row.section_names}
"""The kind of each section, by the name of the section without a suffix."""


def split_section(name: str) -> tuple[str, str] | None:
    """Splits a section's name into the name and the suffix; returns None if no section has this name.

    >>> split_section("model_g"), split_section("test_dataset"), split_section("meta_g")
    (('model', 'g'), ('test_dataset', ''), None)
    """
    if name in SECTIONS:
        return name, ""
    for plain, kind in SECTIONS.items():
        if kind.suffixed and name.startswith(f"{plain}_") and len(name) > len(plain) + 1:
            return plain, name[len(plain) + 1 :]
    return None


def kind_of(section: str) -> Kind | None:
    """Returns the kind of a section (such as `model_g`) or the kind with this name (such as `metric`); None otherwise.

    >>> kind_of("model_g").name, kind_of("train_dataset").name, kind_of("metric").name, kind_of("modl")
    ('model', 'dataset', 'metric', None)
    """
    known = split_section(section)
    return SECTIONS[known[0]] if known else KINDS.get(section)


def affects(section: str, effect: Effect) -> bool:
    """Returns whether the settings of a section can have an effect. A section that a plugin provides can have each.

    >>> affects("model_g", "outputs"), affects("validate_dataset", "step"), affects("test_dataset", "training")
    (True, False, False)
    """
    kind = kind_of(section)
    if kind is None:
        return True
    # Validations don't change the duration of a training step, but which checkpoint is the best and when to stop.
    possible = {"train": EFFECTS, "validate": ("training",)}.get(kind.modes.get(section, "train"), ())
    return effect in kind.affects and effect in possible


def section_name(kind: str, suffix: str) -> str:
    """Returns the name of a section with a suffix, which may be empty: `model`, `model_g`."""
    return f"{kind}_{suffix}" if suffix else kind


def needed_sections(modes: Iterable[str]) -> dict[str, str]:
    """Returns the sections that the modes need, each with the mode that needs it; "" if every mode needs the section.

    >>> needed_sections(["test"])
    {'meta': '', 'trainer': '', 'model': '', 'test_dataset': 'test'}
    """
    needed = {name: "" for name, kind in SECTIONS.items() if kind.needed_in == RUN_MODES}
    for mode in modes:
        serves = "train" if mode in TRAINING else mode
        for name, kind in SECTIONS.items():
            first_of_its_mode = name == next((other for other, wanted in kind.modes.items() if wanted == serves), None)
            if mode in kind.needed_in or first_of_its_mode:
                needed.setdefault(name, mode)
    return needed
