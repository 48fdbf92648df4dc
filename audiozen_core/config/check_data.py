"""Checks whether the classes of data sets are compatible with their data loaders and with each other."""

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
    """Yields the errors that data loaders would raise, if the classes of the data sets are enough to know that.

    A data set that a function returns is not checked, because its class is unknown.

    Args:
        components: the checked components by key path.
        datasets: the data sets by mode.
    """
    for mode, sections in datasets.items():
        # All training sets share one loader. In the other modes, each data set has its own loader.
        for group in [sections] if mode == "train" else [[section] for section in sections]:
            by_header = {
                section.header: checked
                for section in group
                if (checked := components.get(section.key)) and isinstance(checked.target, type)
            }
            if by_header:
                yield from _check_loader(group, by_header)


def _check_loader(sections: Sequence[DatasetComponent], by_header: Mapping[str, CheckedComponent]) -> Iterator[Finding]:
    """Checks the data sets of one loader. `by_header` holds the data sets whose `path` names a class."""
    first = sections[0]
    streams = {header: is_subclass(checked.target, STREAM) for header, checked in by_header.items()}
    if mixed := mixture_error(streams):
        odd = next(header for header, is_stream in streams.items() if is_stream != next(iter(streams.values())))
        yield _finding(mixed, ("path",)), by_header[odd].component.key
        return
    table = first.dataloader
    functions = {
        header: getattr(checked.target, "collate_fn", None)
        for header, checked in by_header.items()
        if not may_set(checked.target, "collate_fn")
    }
    if not table.collate_fn and functions and (found := collate_error(functions, first.dataloader_header)):
        yield _finding(found[1], ("path",)), by_header[found[0]].component.key
    if any(streams.values()):
        samplers = (("sampler", table.sampler), ("batch_sampler", table.batch_sampler))
        for key, error in stream_errors(
            " and ".join(section.header for section in sections),
            shards_itself=all(_may_shard_itself(part) for checked in by_header.values() for part in _parts(checked)),
            num_workers=table.num_workers,
            shuffle=bool(table.shuffle),
            sampler=next((key for key, component in samplers if component), ""),
        ):
            yield _finding(error, ("dataloader", key)), first.key


def _parts(stream: CheckedComponent) -> Sequence[CheckedComponent]:
    """Returns the streams that a `ChainDataset` reads one after another. For any other stream, returns only itself."""
    return tuple(stream.nested.values()) if is_subclass(stream.target, CHAIN) else (stream,)


def _may_shard_itself(stream: CheckedComponent) -> bool:
    target = stream.target
    return not isinstance(target, type) or bool(getattr(target, SHARDS_ITSELF, False)) or may_set(target, SHARDS_ITSELF)


def _finding(error: AudioZenError, place: KeyPath) -> Diagnostic:
    (finding,) = error.diagnostics
    return replace(finding, code=config_codes.UNFIT, place=place)
