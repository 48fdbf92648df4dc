"""From composed values to the typed sections of an experiment, with every finding on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.config.composition import Composition
from audiozen_core.config.read_table import TableReader
from audiozen_core.config.schema import ARRAY_SECTIONS, SECTION_NAMES, key_at, split_section, table_at
from audiozen_core.config.sections import (
    DATASET_SECTIONS,
    SUFFIXED_SECTIONS,
    Component,
    DatasetComponent,
    DatasetRole,
    HookComponent,
    Meta,
    SchedulerComponent,
)
from audiozen_core.config.toml.key_path import KeyPath
from audiozen_core.diagnostics import config_codes

# What each mode needs besides `meta`, `trainer` and `model`.
REQUIRED: dict[str, tuple[str, ...]] = {
    "train": ("loss_function", "optimizer", "dataset"),
    "finetune": ("loss_function", "optimizer", "dataset"),
    "validate": ("validate_dataset",),
    "test": ("test_dataset",),
    "predict": ("predict_dataset",),
}


@dataclass(slots=True)
class Sections:
    """The sections that could be read."""

    meta: Meta | None = None
    acoustics: Acoustics | None = None
    trainer: Component | None = None
    models: dict[str, Component] = field(default_factory=dict)
    loss_functions: dict[str, Component] = field(default_factory=dict)
    optimizers: dict[str, Component] = field(default_factory=dict)
    lr_schedulers: dict[str, SchedulerComponent] = field(default_factory=dict)
    datasets: dict[DatasetRole, list[DatasetComponent]] = field(
        default_factory=lambda: {"train": [], "validate": [], "test": [], "predict": []}
    )
    hooks: list[HookComponent] = field(default_factory=list)

    def components(self) -> list[Component]:
        """Every component, those within `dataloader` included."""
        found: list[Component] = [self.trainer] if self.trainer else []
        for group in (self.models, self.loss_functions, self.optimizers, self.lr_schedulers):
            found += group.values()
        for datasets in self.datasets.values():
            for dataset in datasets:
                parts = (dataset, dataset.dataloader.collate_fn, dataset.dataloader.sampler)
                found += [part for part in parts if part]
        return [*found, *self.hooks]


def read_sections(composition: Composition, modes: Sequence[str]) -> Sections:
    """Reads the sections; what is wrong is added to the composition's findings.

    Args:
        composition: the values.
        modes: the modes to be run, each a key of `REQUIRED`; they say which sections must be there.
    """
    reader = _Reader(composition)
    # First those that nobody knows: what they were meant to be is not reported as incomplete, too.
    for name, value in sorted(composition.values.items(), key=lambda item: split_section(item[0]) is not None):
        reader.section(name, value)
    reader.missing_sections(modes)
    reader.partners()
    reader.numbers()
    return reader.sections


class _Reader:
    def __init__(self, composition: Composition) -> None:
        self.composition = composition
        self.tables = TableReader(composition)
        self.sections = Sections()
        # What unknown sections were probably meant to be; those are not reported as missing too.
        self.guessed: set[str] = set()

    # ------------------------------------------------------------------------------------------ one section

    def section(self, name: str, value: Any) -> None:
        known = split_section(name)
        if known is None:
            self.unknown(name, value)
            return
        if name in self.guessed:
            return
        kind, suffix = known
        for place, table in self.entries(kind, (name,), value):
            self.store(kind, suffix, place, table)

    def entries(self, kind: str, place: KeyPath, value: Any) -> Iterable[tuple[KeyPath, Mapping[str, Any]]]:
        """The tables of a section: itself, or the entries of an array of tables."""
        tables = [(place, value)]
        if isinstance(value, list) and kind in ARRAY_SECTIONS:
            tables = [((*place, index), entry) for index, entry in enumerate(value)]
        for path, table in tables:
            if isinstance(table, dict):
                yield path, table
            elif path not in self.composition.unresolved:
                self.tables.wrong_type(path, "a table", table, notes=_table_help(self.composition.spell(path), table))

    def store(self, kind: str, suffix: str, place: KeyPath, table: Mapping[str, Any]) -> None:
        found = self.tables.read(table_at(place) or Component, place, table)
        if found is None:
            return
        sections = self.sections
        if kind == "meta":
            sections.meta = found
        elif kind == "acoustics":
            sections.acoustics = found
        elif kind == "trainer":
            sections.trainer = found
        elif kind == "hooks":
            sections.hooks.append(found)
        elif kind in DATASET_SECTIONS:
            sections.datasets[DATASET_SECTIONS[kind]].append(found)
        else:
            group: dict[str, Any] = getattr(sections, f"{kind}s")
            group[suffix] = found

    def unknown(self, name: str, value: Any) -> None:
        if not isinstance(value, dict | list):
            owners = [section for section in ("meta", "acoustics") if key_at((section, name))]
            note = f"help: `{name}` belongs into [{owners[0]}]" if owners else "help: keys belong into a section"
            message = f"unknown key `{name}` outside of all sections"
            self.report(config_codes.UNKNOWN_KEY, message, (name,), notes=(note,))
            return
        base, _, suffix = name.rpartition("_")
        # `modl_g` is near to `model_g`, not to `model`.
        suffixed = [f"{kind}_{suffix}" for kind in SUFFIXED_SECTIONS if base]
        free = [other for other in (*SECTION_NAMES, *suffixed) if not self.is_whole(other)]
        near = None if base in SECTION_NAMES else self.composition.nearest(name, free)
        if near:
            self.guessed.add(near)
        label = f"did you mean `{near}`?" if near else f"`{base}` takes no suffix" if base in SECTION_NAMES else ""
        notes = () if label else (f"sections: {', '.join(SECTION_NAMES)}",)
        more: dict[str, Any] = {"label": label, "suggestion": near, "notes": notes}
        self.report(config_codes.UNKNOWN_SECTION, f"unknown section `{name}`", (name,), **more)

    def is_whole(self, name: str) -> bool:
        """Whether the section is there; not so `[model]` of which there is but the header `[model.args]`."""
        value = self.composition.values.get(name)
        return value is not None and not (isinstance(value, dict) and value.keys() == {"args"})

    def report(self, code: str, message: str, place: KeyPath, **more: Any) -> None:
        self.composition.findings.append(self.composition.finding(code, message, place, at="key", **more))

    # ------------------------------------------------------------------------------------------ all together

    def missing_sections(self, modes: Sequence[str]) -> None:
        needed = dict.fromkeys(("meta", "trainer", "model"), "")
        for mode in modes:
            needed |= {name: f" in mode {mode}" for name in REQUIRED[mode] if name not in needed}
        names = [name for name, value in self.composition.values.items() if value != []]
        kinds = {known[0] for name in (*names, *self.guessed) if (known := split_section(name))}
        for name, why in needed.items():
            if name in kinds:
                continue
            document = self.composition.main
            end = len(document.source.text.rstrip())
            message = f"there is no section `[{name}]`, which is needed{why}"
            span = document.source.span(end, end)
            label = f"the file ends without `[{name}]`"
            self.composition.findings.append(
                document.source.finding(config_codes.MISSING_SECTION, message, span, label=label)
            )

    def partners(self) -> None:
        """Each optimiser has its model, each scheduler its optimiser."""
        names = {known: name for name in self.composition.values if (known := split_section(name))}
        for (kind, suffix), name in names.items():
            partner = {"optimizer": "model", "lr_scheduler": "optimizer"}.get(kind)
            wanted = f"{partner}_{suffix}" if suffix else partner
            if partner is None or (partner, suffix) in names or wanted in self.guessed:
                continue
            there = [other for found, other in names if found == partner]
            # Without any partner at all, the missing section is reported already.
            if not there and not suffix:
                continue
            # The partners that have no section of this kind yet: one of them is meant.
            free = [f"{kind}_{other}" if other else kind for other in there if (kind, other) not in names]
            near = free[0] if len(free) == 1 else self.composition.nearest(name, free)
            message = f"`[{name}]` has no `[{wanted}]` to work on"
            label = f"did you mean `{near}`?" if near else ""
            self.report(config_codes.NO_PARTNER, message, (name,), label=label, suggestion=near)

    def numbers(self) -> None:
        """The lengths of the transform, against each other."""
        numbers = self.sections.acoustics or Acoustics()
        self.at_most("win_length", numbers.win_length, "n_fft", numbers.n_fft)
        self.at_most("hop_length", numbers.hop_length, "win_length", numbers.win_length)

    def at_most(self, name: str, value: int, other: str, limit: int) -> None:
        if value <= limit or {("acoustics", name), ("acoustics", other)} & self.tables.invalid:
            return
        given = self.composition.values.get("acoustics", {})
        place, label = name, f"`{other}` is {limit}{'' if other in given else ' by default'}"
        if name not in given:
            place, label = other, f"`{name}` is {value} by default"
        message = f"`{name}` is {value}, but must be at most `{other}`, which is {limit}"
        self.composition.findings.append(
            self.composition.finding(config_codes.NUMBERS_DISAGREE, message, ("acoustics", place), label=label)
        )


def _table_help(section: str, value: Any) -> tuple[str, ...]:
    return (f'help: write\n[{section}]\npath = "{value}"',) if isinstance(value, str) else ()
