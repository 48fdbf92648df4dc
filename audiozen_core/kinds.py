"""What each kind of section and component is, in one table that everything else reads.

A new kind is one row here: the reader then knows its sections, the checker its base class, the registry its entry point
group, and a trainer finds what was built of it in `components.others`. Imports nothing of AudioZEN, and no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

RunMode = Literal["train", "finetune", "validate", "test", "predict"]
"""What `audiozen run --mode` takes."""

Mode = Literal["train", "validate", "test", "predict"]
"""What a trainer does and what a data set is for; finetuning is training from other weights."""

RUN_MODES: tuple[RunMode, ...] = ("train", "finetune", "validate", "test", "predict")
TRAINING: tuple[RunMode, ...] = ("train", "finetune")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of section or component.

    Attributes:
        name: the section's name; the entry point group is `audiozen.<name>`.
        prose: what a message calls one of them.
        group: whether plugins publish such components by entry point.
        section: whether a TOML file has sections of this kind.
        modes: the section names of a kind with several, each with the mode that it serves.
        needed_in: the modes that can't do without it.
        base: the class that a component must be derived from, dotted; "" for any.
        injected: the arguments that AudioZEN passes, which a TOML file can't.
        suffixed: whether a section may have a suffix, as in `model_g`.
        array: whether a section may be an array of tables.
        partner: the kind of section with the same suffix that it works on.
        called_later: whether a function is kept and called with more arguments, not called to build something.
        torch_home: the module where torch keeps such components, for suggestions.
        example: a dotted path, for messages.
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
    torch_home: str = ""
    example: str = ""

    @property
    def with_article(self) -> str:
        """Such as "an optimiser"."""
        return f"{'an' if self.prose[0] in 'aeiou' else 'a'} {self.prose}"

    @property
    def section_names(self) -> tuple[str, ...]:
        """The names that a TOML file may give to a section of this kind, without suffixes."""
        if not self.section:
            return ()
        return tuple(self.modes) or (self.name,)


_ROWS = (
    Kind(name="meta", prose="section", group=False, needed_in=RUN_MODES),
    Kind(
        name="trainer",
        prose="trainer",
        needed_in=RUN_MODES,
        base="audiozen_core.trainer.base_trainer.BaseTrainer",
        injected=("components",),
        example="trainer.Trainer",
    ),
    Kind(name="acoustics", prose="section", group=False),
    Kind(
        name="model",
        prose="model",
        needed_in=RUN_MODES,
        base="torch.nn.Module",
        suffixed=True,
        torch_home="torchaudio.models",
        example="torchaudio.models.ConvTasNet",
    ),
    Kind(
        name="loss_function",
        prose="loss function",
        needed_in=TRAINING,
        suffixed=True,
        called_later=True,
        torch_home="torch.nn",
        example="torch.nn.MSELoss",
    ),
    Kind(
        name="optimizer",
        prose="optimiser",
        needed_in=TRAINING,
        base="torch.optim.Optimizer",
        injected=("params",),
        suffixed=True,
        partner="model",
        torch_home="torch.optim",
        example="torch.optim.RAdam",
    ),
    Kind(
        name="lr_scheduler",
        prose="learning rate scheduler",
        injected=("optimizer",),
        suffixed=True,
        partner="optimizer",
        torch_home="torch.optim.lr_scheduler",
        example="torch.optim.lr_scheduler.StepLR",
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
    ),
    Kind(name="hooks", prose="hook", array=True),
    Kind(name="metric", prose="metric", section=False),
    Kind(name="commands", prose="command", section=False),
    # These two stand in the table `dataloader` of a data set.
    Kind(name="collate_fn", prose="collate function", group=False, section=False, called_later=True),
    Kind(name="sampler", prose="sampler", group=False, section=False, injected=("data_source",)),
)

KINDS: dict[str, Kind] = {row.name: row for row in _ROWS}
"""Every kind by name."""

GROUPS: dict[str, Kind] = {row.name: row for row in _ROWS if row.group}
"""The kinds that plugins publish, in the entry point group `audiozen.<name>`."""

SECTIONS: dict[str, Kind] = {name: row for row in _ROWS for name in row.section_names}
"""Every section name without suffixes, in the order in which they are listed."""


def split_section(name: str) -> tuple[str, str] | None:
    """A section's name without its suffix, and the suffix; None if no section has that name.

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
    """The kind of a section, or of a component that is named without one; None for other names.

    >>> kind_of("model_g").name, kind_of("train_dataset").name, kind_of("metric").name, kind_of("modl")
    ('model', 'dataset', 'metric', None)
    """
    known = split_section(section)
    return SECTIONS[known[0]] if known else KINDS.get(section)


def section_name(kind: str, suffix: str) -> str:
    """The section with a suffix: `model`, `model_g`."""
    return f"{kind}_{suffix}" if suffix else kind


def needed_sections(modes: Iterable[str]) -> dict[str, str]:
    """The sections that a file must have for these modes, each with the mode that needs it, "" for every mode.

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
