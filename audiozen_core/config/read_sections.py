"""Reads the sections of an experiment from its composed values into dataclasses, and reports every error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.config.composition import Composition
from audiozen_core.config.meant_sections import MeantSections
from audiozen_core.config.plugin_sections import section_names
from audiozen_core.config.read_table import TableReader
from audiozen_core.config.schema import key_at, table_of
from audiozen_core.config.sections import Component, Dataloader, DatasetComponent, HookComponent, Meta, dataset_names
from audiozen_core.config.used_plugins import recorded_plugin
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.distributed.settings import Distributed
from audiozen_core.kinds import KINDS, SECTIONS, Mode, needed_sections, section_name, split_section
from audiozen_core.launcher.settings import Launcher
from audiozen_core.registry.hints import earlier_use
from audiozen_core.registry.index import installed_index, off_note

# The kinds with one object for each section. Data sets and hooks are arrays and have separate fields in `Sections`.
_BUILT_KINDS = [kind for kind in KINDS.values() if kind.group and kind.section and not kind.array]


@dataclass(slots=True)
class Sections:
    """The sections of a file, without the sections that have too many errors to be used."""

    meta: Meta | None = None
    acoustics: Acoustics | None = None
    distributed: Distributed | None = None
    launcher: Launcher | None = None
    components_by_kind: dict[str, dict[str, Component]] = field(
        default_factory=lambda: {kind.name: {} for kind in _BUILT_KINDS}
    )
    datasets: dict[Mode, list[DatasetComponent]] = field(
        default_factory=lambda: {mode: [] for mode in KINDS["dataset"].modes.values()}
    )
    hooks: list[HookComponent] = field(default_factory=list)
    of_plugins: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def dataset_names(self) -> dict[Mode, tuple[str, ...]]:
        """The names of the data sets by mode."""
        return dataset_names(self.datasets)

    def components(self) -> list[Component]:
        """Returns every component, including the components in `dataloader` tables."""
        components = [component for of_kind in self.components_by_kind.values() for component in of_kind.values()]
        for dataset in (dataset for datasets in self.datasets.values() for dataset in datasets):
            table = dataset.dataloader
            of_dataset = (dataset, table.collate_fn, table.sampler, table.batch_sampler)
            components += [component for component in of_dataset if component]
        return [*components, *self.hooks]


def read_sections(composition: Composition, modes: Sequence[str]) -> Sections:
    """Reads the sections, and adds errors to the findings of the composition. The modes decide what is required."""
    reader = _Reader(composition)
    for name in reader.meant.in_order():
        reader.read(name, composition.values[name])
    reader.check_missing_sections(modes)
    reader.check_partners()
    reader.check_training_dataloaders()
    reader.check_batch_samplers()
    reader.check_evaluations_drop_nothing()
    reader.check_dataset_names()
    return reader.sections


class _Reader:
    def __init__(self, composition: Composition) -> None:
        self.composition = composition
        self.tables = TableReader(composition)
        self.sections = Sections()
        self.of_plugins = section_names()
        self.meant = MeantSections(composition, self.of_plugins)
        # The known sections that the user probably meant by unknown names.
        self.guessed = self.meant.guessed

    # ------------------------------------------------------------------------------------------ one section

    def read(self, name: str, value: Any) -> None:
        known = split_section(name)
        if known is None and name in self.of_plugins:
            if isinstance(value, dict):
                self.sections.of_plugins[name] = value
            elif (name,) not in self.composition.unresolved:
                self.tables.wrong_type((name,), "a table", value)
            return
        if known is None:
            self.report_unknown(name, value)
            return
        if name in self.guessed:
            return
        kind, suffix = known
        for place, table in self.entries(kind, (name,), value):
            self.store(kind, suffix, place, table)

    def entries(self, kind: str, place: KeyPath, value: Any) -> Iterable[tuple[KeyPath, Mapping[str, Any]]]:
        """Yields the tables of a section: the section itself, or, if it is an array of tables, its entries."""
        tables = [(place, value)]
        if isinstance(value, list) and SECTIONS[kind].array:
            tables = [((*place, index), entry) for index, entry in enumerate(value)]
        for path, table in tables:
            if isinstance(table, dict):
                yield path, table
            elif path not in self.composition.unresolved:
                section = self.composition.spell(path)
                notes = (f'help: write\n[{section}]\npath = "{table}"',) if isinstance(table, str) else ()
                self.tables.wrong_type(path, "a table", table, notes=notes)

    def store(self, section: str, suffix: str, place: KeyPath, table: Mapping[str, Any]) -> None:
        kind = SECTIONS[section]
        found = self.tables.read(table_of(kind), place, table)
        if found is None:
            return
        sections = self.sections
        if section in kind.modes:
            sections.datasets[kind.modes[section]].append(found)
        elif kind.name in sections.components_by_kind:
            sections.components_by_kind[kind.name][suffix] = found
        elif kind.name == "hooks":
            sections.hooks.append(found)
        else:
            setattr(sections, section, found)

    def report_unknown(self, name: str, value: Any) -> None:
        if not isinstance(value, dict | list):
            owners = [section for section, kind in SECTIONS.items() if not kind.group and key_at((section, name))]
            note = f"help: `{name}` belongs in [{owners[0]}]" if owners else "help: every key belongs in a section"
            message = f"unknown key `{name}` outside of all sections"
            self.report(config_codes.UNKNOWN_KEY, message, (name,), notes=(note,))
            return
        message = f"unknown section `{name}`"
        if plugin := self.plugin_notes(name):
            self.report(config_codes.UNKNOWN_SECTION, message, (name,), notes=plugin)
            return
        if self.meant.is_part(name):
            # Editors replace the name of the section with the suggestion, so the suggestion can't be a key path.
            key = self.meant.key(name)
            spelling = self.composition.spell(key) if key else None
            has_key = key in self.composition.origins
            label = f"the file already has `{spelling}`" if has_key else did_you_mean(spelling)
            self.report(config_codes.UNKNOWN_SECTION, message, (name,), label=label)
            return
        base = name.rpartition("_")[0]
        similar = self.meant.section(name)
        label = did_you_mean(similar) or (f"`{base}` takes no suffix" if base in SECTIONS else "")
        if not label and (taken := self.meant.existing_section(name)):
            second = f"; to add a second section, write another `[[{taken}]]`" if SECTIONS[taken].array else ""
            label = f"the file already has `[{taken}]`{second}"
        notes = () if label else (f"sections: {', '.join([*SECTIONS, *self.of_plugins])}",)
        self.report(config_codes.UNKNOWN_SECTION, message, (name,), label=label, suggestion=similar, notes=notes)

    def plugin_notes(self, name: str) -> tuple[str, ...]:
        """Returns notes about a section whose plugin is switched off, or was installed when the experiment last ran."""
        off = [entry for entry in installed_index().off if (entry.kind, entry.name) == ("section", name)]
        if off:
            return (off_note(off[0]),)
        if recorded := recorded_plugin(self.composition, name):
            note, remedy = earlier_use(name, *recorded)
            return note, f"help: {remedy}"
        return ()

    def report(self, code: str, message: str, place: KeyPath, **more: Any) -> None:
        self.composition.findings.append(self.composition.finding(code, message, place, at="key", **more))

    # ------------------------------------------------------------------------------------------ all sections

    def check_missing_sections(self, modes: Sequence[str]) -> None:
        names = [name for name, value in self.composition.values.items() if value != []]
        kinds = {known[0] for name in (*names, *self.guessed) if (known := split_section(name))}
        for name, mode in needed_sections(modes).items():
            if name in kinds:
                continue
            document = self.composition.main
            end = len(document.source.text.rstrip())
            message = f"the section `[{name}]` is missing{f', and mode {mode} needs it' if mode else ''}"
            span = document.source.span(end, end)
            label = f"the file ends without `[{name}]`"
            self.composition.findings.append(
                document.source.finding(config_codes.MISSING_SECTION, message, span, label=label)
            )

    def check_partners(self) -> None:
        """Checks that each optimiser has a model, and each scheduler an optimiser, with the same suffix."""
        names = {known: name for name in self.composition.values if (known := split_section(name))}
        for (kind, suffix), name in names.items():
            partner = SECTIONS[kind].partner
            wanted = section_name(partner, suffix)
            if not partner or (partner, suffix) in names or wanted in self.guessed:
                continue
            suffixes = [other for found, other in names if found == partner]
            # If the file has no section of that kind, the missing section has been reported already.
            if not suffixes and not suffix:
                continue
            # The user probably means a suffix that no section of this kind has yet.
            free = [section_name(kind, other) for other in suffixes if (kind, other) not in names]
            similar = free[0] if len(free) == 1 else nearest(name, free)
            message = f"`[{name}]` has no `[{wanted}]` to work on"
            label = did_you_mean(similar)
            self.report(config_codes.NO_PARTNER, message, (name,), label=label, suggestion=similar)

    def check_training_dataloaders(self) -> None:
        """Reports a `dataloader` that would be ignored, because all training sets use the loader of the first set."""
        datasets = self.sections.datasets["train"]
        for other in datasets[1:]:
            first = datasets[0]
            place = (*other.key, "dataloader")
            if place not in self.composition.origins or _without_keys(other) == _without_keys(first):
                continue
            self.report(
                config_codes.DATALOADER_IGNORED,
                f"`{self.composition.spell(place)}` would be ignored: several training sets share one data loader",
                place,
                label=f"leave it out, or write the same `dataloader` in `{self.composition.spell(first.key)}`",
                notes=(f"the data loader in use: {self.composition.origin((*first.key, 'dataloader'))}",),
            )

    def check_batch_samplers(self) -> None:
        """Reports the keys of a `dataloader` that would be ignored, because its `batch_sampler` makes whole batches."""
        for dataset in (dataset for of_mode in self.sections.datasets.values() for dataset in of_mode):
            if dataset.dataloader.batch_sampler is None:
                continue
            for name in ("batch_size", "shuffle", "drop_last", "sampler"):
                place = (*dataset.key, "dataloader", name)
                if place in self.composition.origins:
                    message = f"`{self.composition.spell(place)}` would be ignored: `batch_sampler` makes whole batches"
                    self.report(config_codes.DATALOADER_IGNORED, message, place, label="leave it out")

    def check_evaluations_drop_nothing(self) -> None:
        """Reports a `drop_last` that would leave files out of a validation, a test or a prediction."""
        for mode, datasets in self.sections.datasets.items():
            for dataset in datasets if mode != "train" else ():
                table = dataset.dataloader
                samplers = [sampler for sampler in (table.sampler, table.batch_sampler) if sampler]
                dropping = [
                    ((*sampler.key, "args", "drop_last"), sampler.args.get("drop_last")) for sampler in samplers
                ]
                for place, drops in (((*dataset.key, "dataloader", "drop_last"), table.drop_last), *dropping):
                    if drops is True:
                        message = f"`drop_last` would leave out the last files of a data set for mode {mode}"
                        label = "leave it out: an evaluation uses all files"
                        self.composition.findings.append(
                            self.composition.finding(config_codes.BAD_VALUE, message, place, label=label)
                        )

    def check_dataset_names(self) -> None:
        """Checks that the data sets of a mode have different names, because the names identify their results."""
        for mode, datasets in self.sections.datasets.items():
            names = self.sections.dataset_names[mode]
            for index, dataset in enumerate(datasets):
                # Compare the name with the names of all data sets, because it may equal the index of a later data set.
                equal = [other for at, other in enumerate(datasets) if at != index and names[at] == names[index]]
                if dataset.name and any(not other.name or other.key < dataset.key for other in equal):
                    self.composition.findings.append(
                        self.composition.finding(
                            config_codes.BAD_VALUE,
                            f"two data sets are called `{dataset.name}`",
                            (*dataset.key, "name"),
                            label="give it another name",
                            notes=(f"{equal[0].header}: {self.composition.origin(equal[0].key)}",),
                        )
                    )


def _without_keys(dataset: DatasetComponent) -> Dataloader:
    """Returns a data set's `dataloader` table without key paths, because key paths differ between data sets."""
    table = dataset.dataloader
    return replace(
        table,
        collate_fn=table.collate_fn and replace(table.collate_fn, key=()),
        sampler=table.sampler and replace(table.sampler, key=()),
        batch_sampler=table.batch_sampler and replace(table.batch_sampler, key=()),
    )
