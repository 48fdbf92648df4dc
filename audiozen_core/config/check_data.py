"""Checks whether the classes of data sets fit their data loaders and each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from audiozen_core.binding.arguments import is_subclass
from audiozen_core.binding.self_attributes import may_set
from audiozen_core.config.checked import CheckedComponent
from audiozen_core.config.sections import DatasetComponent
from audiozen_core.data.streams import CHAIN, SHARDS_ITSELF, STREAM, collate_error, mixture_error, stream_errors
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Finding
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.errors import AudioZenError
from audiozen_core.kinds import Mode


def check_data(
    components: Mapping[KeyPath, CheckedComponent], datasets: Mapping[Mode, Sequence[DatasetComponent]]
) -> Iterator[Finding]:
    """Yields what the loaders would refuse, as far as it can be seen from the classes of the data sets.

    Nothing is known of a data set that a function makes.

    Args:
        components: the checked components by key path.
        datasets: the data sets by mode.
    """
    for mode, sections in datasets.items():
        # The training sets are joined; the sets of another mode are not.
        for group in [sections] if mode == "train" else [[section] for section in sections]:
            known = {
                section.header: checked
                for section in group
                if (checked := components.get(section.key)) and isinstance(checked.target, type)
            }
            if known:
                yield from _check_loader(group, known)


def _check_loader(sections: Sequence[DatasetComponent], known: Mapping[str, CheckedComponent]) -> Iterator[Finding]:
    """Checks the data sets of one loader. `known` are those with a class, by their header."""
    first = sections[0]
    streams = {header: is_subclass(checked.target, STREAM) for header, checked in known.items()}
    if mixed := mixture_error(streams):
        odd = next(header for header, is_stream in streams.items() if is_stream != next(iter(streams.values())))
        yield _finding(mixed, ("path",)), known[odd].component.key
        return
    table = first.dataloader
    functions = {
        header: getattr(checked.target, "collate_fn", None)
        for header, checked in known.items()
        if not may_set(checked.target, "collate_fn")
    }
    if not table.collate_fn and functions and (found := collate_error(functions, first.dataloader_header)):
        yield _finding(found[1], ("path",)), known[found[0]].component.key
    if any(streams.values()):
        samplers = (("sampler", table.sampler), ("batch_sampler", table.batch_sampler))
        for key, error in stream_errors(
            " and ".join(section.header for section in sections),
            shards_itself=all(_may_shard_itself(part) for checked in known.values() for part in _parts(checked)),
            num_workers=table.num_workers,
            shuffle=bool(table.shuffle),
            sampler=next((key for key, component in samplers if component), ""),
        ):
            yield _finding(error, ("dataloader", key)), first.key


def _parts(stream: CheckedComponent) -> Sequence[CheckedComponent]:
    """Returns the streams that are read one after another: those of a `ChainDataset`, otherwise the stream itself."""
    return tuple(stream.nested.values()) if is_subclass(stream.target, CHAIN) else (stream,)


def _may_shard_itself(stream: CheckedComponent) -> bool:
    made = stream.target
    return not isinstance(made, type) or bool(getattr(made, SHARDS_ITSELF, False)) or may_set(made, SHARDS_ITSELF)


def _finding(error: AudioZenError, place: KeyPath) -> Diagnostic:
    (finding,) = error.diagnostics
    return replace(finding, code=config_codes.UNFIT, place=place)
