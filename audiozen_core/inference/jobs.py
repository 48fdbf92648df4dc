"""Enhances many files: skips what is done, reports what is broken, and goes on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from audiozen_core.audio.chunks import joined
from audiozen_core.audio.files import AudioInfo, audio_info, open_audio
from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.inference.enhancer import Enhancer, Written, check_attenuation_limit, write_result
from audiozen_core.inference.formats import Format
from audiozen_core.inference.inputs import Job
from audiozen_core.inference.records import Records, check_results, source_facts
from audiozen_core.storage.atomic import NO_ROOM, remove_partial_files

# Longer files fill a GPU by themselves.
_LONGEST_IN_BATCH = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """How files are enhanced; see `Enhancer.enhance_file`."""

    mix: bool = False
    attenuation_limit: float | None = None
    subtype: str | None = None


@dataclass(slots=True)
class Outcome:
    """What became of the files.

    Attributes:
        written: the results, by input.
        skipped: the inputs whose results were there already.
        failed: the errors, by input.
        wall: the time that it took, in seconds.
    """

    written: dict[Path, Written] = field(default_factory=dict)
    skipped: list[Path] = field(default_factory=list)
    failed: dict[Path, AudioZenError] = field(default_factory=dict)
    wall: float = 0.0

    @property
    def seconds(self) -> float:
        """The duration of the results, in seconds."""
        return sum(one.seconds for one in self.written.values())


def enhance_jobs(
    model: Enhancer,
    jobs: Sequence[Job],
    folder: Path,
    options: Options,
    *,
    batch_size: int = 1,
    overwrite: bool = False,
    keep_records: bool = True,
    on_start: Callable[[float], object] = lambda seconds: None,
    on_seconds: Callable[[float], object] = lambda seconds: None,
) -> Outcome:
    """Enhances files, and records the results in `enhanced.jsonl` of the output folder.

    Args:
        model: the network.
        jobs: the files.
        folder: the output folder.
        options: how they are enhanced.
        batch_size: how many files of equal length, rate and number of channels to enhance at once.
        overwrite: whether to replace results that exist and were made in another way.
        keep_records: whether to write the record, from which the same call knows later what is done.
        on_start: called once with the duration of all files that are to be enhanced, in seconds.
        on_seconds: called with the duration of each piece that has been read, in seconds.

    Raises:
        RunError: results exist that were made in another way; the disk is full; or an option has no meaning.
    """
    check_attenuation_limit(options.attenuation_limit)
    start, outcome = time.monotonic(), Outcome()
    made_with = {
        "model": model.fingerprint(),
        "mix": options.mix,
        "attenuation limit": options.attenuation_limit,
        "subtype": options.subtype,
    }
    records = Records(folder, made_with, keeps=keep_records)
    states = {job: records.state(job) for job in jobs}
    if not overwrite:
        check_results({job.target: state for job, state in states.items()})
    for target in {job.target.parent for job in jobs}:
        remove_partial_files(target)
    infos: dict[Job, AudioInfo] = {}
    for job in jobs:
        if states[job] == "done":
            outcome.skipped.append(job.source)
            continue
        try:
            infos[job] = audio_info(job.source)
        except AudioZenError as error:
            outcome.failed[job.source] = error
    on_start(sum(info.seconds for info in infos.values()))
    try:
        for batch in _batches(infos, batch_size):
            sources = {job: source_facts(job) for job in batch}
            for job, result in _enhance_batch(model, batch, options, on_seconds):
                if isinstance(result, AudioZenError):
                    outcome.failed[job.source] = result
                else:
                    outcome.written[job.source] = result
                    records.add(job, result.paths, sources[job], {"frames": result.frames, "sr": result.sr})
    finally:
        records.close()
    outcome.wall = time.monotonic() - start
    return outcome


def _batches(infos: dict[Job, AudioInfo], batch_size: int) -> Iterator[list[Job]]:
    """Yields the files in batches of equal length, rate and number of channels: padding would change the results."""

    def form(job: Job) -> tuple[int, int, int]:
        return infos[job].frames, infos[job].sr, infos[job].channels

    single = [job for job in infos if batch_size == 1 or infos[job].seconds > _LONGEST_IN_BATCH]
    yield from ([job] for job in single)
    rest = sorted(infos.keys() - set(single), key=lambda job: (form(job), str(job.source)))
    for _, group in itertools.groupby(rest, form):
        same = list(group)
        yield from (same[begin : begin + batch_size] for begin in range(0, len(same), batch_size))


def _enhance_batch(
    model: Enhancer, batch: Sequence[Job], options: Options, on_seconds: Callable[[float], object]
) -> Iterator[tuple[Job, Written | AudioZenError]]:
    """Yields the result of each file, or its error."""
    for job, result in (
        _together(model, batch, options, on_seconds) if len(batch) > 1 else _alone(model, batch[0], options, on_seconds)
    ):
        if isinstance(result, AudioZenError) and _is_full(result):
            raise RunError(
                f"the disk is full: {result.message}",
                remedy="make room and give the same command again, which skips what is done",
            ) from result
        yield job, result


def _alone(
    model: Enhancer, job: Job, options: Options, on_seconds: Callable[[float], object]
) -> Iterator[tuple[Job, Written | AudioZenError]]:
    try:
        yield job, model.enhance_file(
            job.source, job.target, name=job.name, mix=options.mix, attenuation_limit=options.attenuation_limit,
            subtype=options.subtype, on_seconds=on_seconds,
        )  # fmt: skip
    except AudioZenError as error:
        yield job, error


def _together(
    model: Enhancer, batch: Sequence[Job], options: Options, on_seconds: Callable[[float], object]
) -> Iterator[tuple[Job, Written | AudioZenError]]:
    """Enhances files of one length, rate and number of channels at once."""
    waves: dict[Job, Tensor] = {}
    forms: dict[Job, tuple[AudioInfo, Format]] = {}
    for job in batch:
        try:
            with open_audio(job.source) as audio:
                forms[job] = audio.info, Format.of_file(job.target, audio.subtype, options.subtype)
                wave = torch.cat(list(audio.blocks(audio.info.frames)), dim=-1)
                waves[job] = wave.mean(0, keepdim=True) if options.mix else wave
        except AudioZenError as error:
            yield job, error
    if not waves:
        return
    names = [job.name for job, wave in waves.items() for _ in wave]
    info = forms[next(iter(waves))][0]
    stream = model.enhance_stream(
        [torch.cat(list(waves.values()))], info.sr, names=names, attenuation_limit=options.attenuation_limit
    )
    try:
        enhanced = torch.split(joined(stream, info.frames), [len(wave) for wave in waves.values()])
    except AudioZenError as error:  # what concerns all of them, such as their sample rate
        yield from ((job, error) for job in waves)
        return
    for job, wave in zip(waves, enhanced, strict=True):
        on_seconds(info.seconds)
        try:
            yield job, write_result([wave], job.target, *forms[job])
        except AudioZenError as error:
            yield job, error


def _is_full(error: AudioZenError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_ROOM
