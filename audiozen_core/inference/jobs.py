"""Enhances many files: skips what is done, reports what is broken, and goes on."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiozen_core.audio.chunks import joined
from audiozen_core.audio.files import AudioInfo, audio_info, open_audio
from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.inference.enhancer import Enhancer, Written, check_attenuation_limit, enhance_file_by, write_result
from audiozen_core.inference.formats import Format
from audiozen_core.inference.inputs import Job
from audiozen_core.inference.records import Records, check_results, source_facts
from audiozen_core.storage.atomic import NO_ROOM, remove_partial_files

# Longer files fill a GPU by themselves.
_LONGEST_IN_BATCH = 60.0
# The result of a shorter file is kept until it is written, in seconds.
_LONGEST_KEPT = 30.0


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


_Done = tuple[Job, Written | AudioZenError]


def enhance_jobs(
    model: Enhancer,
    jobs: Sequence[Job],
    folder: Path,
    options: Options,
    *,
    batch_size: int = 1,
    overwrite: bool = False,
    keep_records: bool = True,
    on_start: Callable[[float], object] = lambda size: None,
    on_part: Callable[[float], object] = lambda size: None,
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
        on_start: called once with the size of all files that are to be enhanced, in bytes.
        on_part: called with the size of each part that has been read. Sizes are known without opening a file.

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
    outcome.skipped += [job.source for job, state in states.items() if state == "done"]
    waiting = [job for job, state in states.items() if state != "done"]
    sizes = {job: float(source_facts(job).get("size", 0)) for job in waiting}
    on_start(sum(sizes.values()))
    sources: dict[Job, dict[str, Any]] = {}

    def batches() -> Iterator[list[Job]]:
        for batch in _batches(waiting, batch_size, outcome):
            # Before a file is read, because it may still grow.
            sources.update((job, source_facts(job)) for job in batch)
            yield batch

    def record(job: Job, written: Written) -> Written:
        records.add(job, written.paths, sources.pop(job), {"frames": written.frames, "sr": written.sr})
        return written

    try:
        # Everything is recorded by this one thread, right after it is written.
        with ThreadPoolExecutor(1) as disk:
            enhancing = _Enhancing(model, options, disk, record, lambda job, part: on_part(part * sizes[job]))
            for job, result in enhancing.results(batches()):
                if isinstance(result, AudioZenError):
                    outcome.failed[job.source] = result
                else:
                    outcome.written[job.source] = result
    finally:
        records.close()
    outcome.wall = time.monotonic() - start
    return outcome


def _batches(jobs: Sequence[Job], batch_size: int, outcome: Outcome) -> Iterator[list[Job]]:
    """Yields the files in batches of equal length, rate and number of channels: padding would change the results."""
    if batch_size == 1:
        yield from ([job] for job in jobs)
        return
    infos: dict[Job, AudioInfo] = {}
    for job in jobs:
        try:
            infos[job] = audio_info(job.source)
        except AudioZenError as error:
            outcome.failed[job.source] = error

    def form(job: Job) -> tuple[int, int, int]:
        return infos[job].frames, infos[job].sr, infos[job].channels

    single = [job for job in infos if infos[job].seconds > _LONGEST_IN_BATCH]
    yield from ([job] for job in single)
    rest = sorted(infos.keys() - set(single), key=lambda job: (form(job), str(job.source)))
    for _, group in itertools.groupby(rest, form):
        same = list(group)
        yield from (same[begin : begin + batch_size] for begin in range(0, len(same), batch_size))


@dataclass(frozen=True, slots=True)
class _Enhancing:
    """Enhances batches of files.

    Attributes:
        model: the network.
        options: how files are enhanced.
        disk: a thread that writes and records short files, because the disk may take as long as a small network.
        record: records a result, and returns it.
        on_part: called with a file, and how much of it has been read, as a part of 1.
    """

    model: Enhancer
    options: Options
    disk: Executor
    record: Callable[[Job, Written], Written]
    on_part: Callable[[Job, float], object]

    def results(self, batches: Iterable[Sequence[Job]]) -> Iterator[_Done]:
        """Yields the result of each file, or its error. A file is written while the next one is being enhanced.

        Raises:
            RunError: the disk is full.
        """
        for job, result in self._results(batches):
            if isinstance(result, AudioZenError) and _is_full(result):
                raise RunError(
                    f"the disk is full: {result.message}",
                    remedy="make room and give the same command again, which skips what is done",
                ) from result
            yield job, result

    def _results(self, batches: Iterable[Sequence[Job]]) -> Iterator[_Done]:
        unfinished: tuple[Job, Callable[[], Written]] | None = None
        for batch in batches:
            if len(batch) > 1:
                yield from self._together(batch)
                continue
            earlier, unfinished = unfinished, (batch[0], self._start(batch[0]))
            if earlier:
                yield _result(*earlier)
        if unfinished:
            yield _result(*unfinished)

    def _start(self, job: Job) -> Callable[[], Written]:
        """Enhances a file, and returns a function that waits until it is written.

        A long file is written piece by piece before this returns, so that its pieces need not be kept.
        """

        def write(pieces: Iterable[Tensor], target: Path, info: AudioInfo, form: Format) -> Callable[[], Written]:
            if info.seconds > _LONGEST_KEPT:
                return self._recorded(job, write_result(pieces, target, info, form))
            kept = list(pieces)
            return self.disk.submit(lambda: self.record(job, write_result(kept, target, info, form))).result

        def fail(error: AudioZenError) -> Written:
            raise error

        try:
            return enhance_file_by(
                self.model, write, job.source, job.target, name=job.name, mix=self.options.mix,
                attenuation_limit=self.options.attenuation_limit, subtype=self.options.subtype,
                on_block=lambda frames, info: self.on_part(job, frames / info.frames),
            )  # fmt: skip
        except AudioZenError as error:
            return functools.partial(fail, error)

    def _recorded(self, job: Job, written: Written) -> Callable[[], Written]:
        return self.disk.submit(self.record, job, written).result

    def _together(self, batch: Sequence[Job]) -> Iterator[_Done]:
        """Enhances files of one length, rate and number of channels at once."""
        waves: dict[Job, Tensor] = {}
        forms: dict[Job, tuple[AudioInfo, Format]] = {}
        for job in batch:
            try:
                with open_audio(job.source) as audio:
                    forms[job] = audio.info, Format.of_file(job.target, audio.subtype, self.options.subtype)
                    wave = torch.cat(list(audio.blocks(audio.info.frames)), dim=-1)
                    waves[job] = wave.mean(0, keepdim=True) if self.options.mix else wave
            except AudioZenError as error:
                yield job, error
        if not waves:
            return
        names = [job.name for job, wave in waves.items() for _ in wave]
        info = forms[next(iter(waves))][0]
        stream = self.model.enhance_stream(
            [torch.cat(list(waves.values()))], info.sr, names=names, attenuation_limit=self.options.attenuation_limit
        )
        try:
            enhanced = torch.split(joined(stream, info.frames), [len(wave) for wave in waves.values()])
        except AudioZenError as error:  # what concerns all of them, such as their sample rate
            yield from ((job, error) for job in waves)
            return
        for job, wave in zip(waves, enhanced, strict=True):
            self.on_part(job, 1.0)
            try:
                written = write_result([wave], job.target, *forms[job])
            except AudioZenError as error:
                yield job, error
            else:
                yield _result(job, self._recorded(job, written))


def _result(job: Job, finish: Callable[[], Written]) -> _Done:
    try:
        return job, finish()
    except AudioZenError as error:
        return job, error


def _is_full(error: AudioZenError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_ROOM
