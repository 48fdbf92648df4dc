"""Enhances many files: skips existing results, reports files that fail, and continues."""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiozen_core.audio.chunks import join_pieces
from audiozen_core.audio.files import AudioInfo, audio_info, open_audio
from audiozen_core.binding.ranges import Natural, out_of_range
from audiozen_core.data.seeding import keep_generators, seed_from_names
from audiozen_core.distributed.cpus import usable_cpus
from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.inference.enhancer import Enhancer, check_attenuation_limit, enhance_file_by
from audiozen_core.inference.formats import Format
from audiozen_core.inference.inputs import Inputs, Job
from audiozen_core.inference.records import Records, check_results, source_facts
from audiozen_core.inference.results import EncodedResult, EnhancedFile, EnhancedResult, StoredResult, store_result
from audiozen_core.logging import get_logger
from audiozen_core.scoring.worker_pool import FailedStep, run_jobs, workers_are_copies
from audiozen_core.storage.atomic import NO_ROOM, remove_partial_files

# Longer files make full use of a GPU without batching.
_LONGEST_IN_BATCH = 60.0
# The result of a file up to this length, in seconds, is kept in memory until it is written.
_LONGEST_KEPT = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `Enhancer.enhance_file`."""

    mix: bool = False
    attenuation_limit: float | None = None
    subtype: str | None = None


@dataclass(slots=True)
class EnhancementResults:
    """The results for all files.

    Attributes:
        written: the results, by input.
        skipped: the inputs whose results already existed.
        failed: the errors, by input.
        wall: the elapsed time, in seconds.
    """

    written: dict[Path, EnhancedFile] = field(default_factory=dict)
    skipped: list[Path] = field(default_factory=list)
    failed: dict[Path, AudioZenError] = field(default_factory=dict)
    wall: float = 0.0

    @property
    def seconds(self) -> float:
        """The duration of the results, in seconds."""
        return sum(result.seconds for result in self.written.values())


class _FullDiskError(RunError):
    """The disk is full, so no further file can be written."""


class _Writing:
    """Writes and records results. It is always called in the same thread.

    Args:
        records: the record of the results.
        jobs: all files of the command.
        overwrite: whether results may replace files without a record.

    Attributes:
        sources: the facts about each input from before it was read.
    """

    def __init__(self, records: Records, jobs: Sequence[Job], *, overwrite: bool) -> None:
        self.sources: dict[Job, dict[str, Any]] = {}
        self._records = records
        self._jobs = jobs
        self._overwrite = overwrite
        self._inputs: Inputs | None = None

    def __call__(self, job: Job, found: _Result) -> EnhancedFile:
        stored = found if isinstance(found, StoredResult) else found.store()
        with stored.removed_on_error():
            self._check(job, stored.paths)
            digests = stored.digests()
            self._records.begin(job, dict(zip(stored.paths, digests, strict=True)))
        try:
            written = stored.place()
        except AudioZenError:
            self._records.give_up(job)
            raise
        self._records.add(job, written, digests, self.sources.pop(job))
        return written

    def _check(self, job: Job, paths: Sequence[Path]) -> None:
        """Raises a `DataError` if a result would replace an input or another file."""
        if signals := [path for path in paths if path != job.target]:  # `list_jobs` has checked the target
            self._inputs = self._inputs or Inputs(each.source for each in self._jobs)
            for path in signals:
                self._inputs.check_remain(path, job.source)
        if not self._overwrite:
            self._records.check_files(job, paths)


_Batch = tuple[Job, ...]
_Result = EnhancedResult | EncodedResult | StoredResult
_Unwritten = tuple[Job, _Result | AudioZenError]
_Done = tuple[Job, EnhancedFile | AudioZenError]


def enhance_jobs(
    model: Enhancer,
    jobs: Sequence[Job],
    folder: Path,
    options: Options,
    *,
    batch_size: int = 1,
    num_workers: Natural | None = 0,
    overwrite: bool = False,
    keep_records: bool = True,
    on_start: Callable[[float], object] = lambda size: None,
    on_part: Callable[[float], object] = lambda size: None,
) -> EnhancementResults:
    """Enhances files, and records the results in `enhanced.jsonl` of the output folder.

    Args:
        model: the network.
        jobs: the files.
        folder: the output folder.
        options: the options of the enhancement.
        batch_size: how many files of equal length, rate and number of channels to enhance at once.
        num_workers: the number of processes that enhance files, each with one thread; 0 uses only this process, and
            None starts one process for each CPU if the network is on the CPU.
        overwrite: whether to replace existing results that were made with other weights or options.
        keep_records: whether to record the results, so that a later call can skip them.
        on_start: called once with the total size of the files to enhance, in bytes.
        on_part: called with the size of each part that has been read, or of each file that a worker has enhanced. The
            progress is measured in bytes, because sizes are known without opening a file.

    Raises:
        RunError: results with other weights or options exist; the disk is full; or options contradict each other.
    """
    check_attenuation_limit(options.attenuation_limit)
    workers = _number_of_workers(num_workers, model)
    start, outcome = time.monotonic(), EnhancementResults()
    made_with = {
        "model": model.fingerprint(),
        "version of the code": model.source.code,
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
    write = _Writing(records, jobs, overwrite=overwrite)

    def batches() -> Iterator[_Batch]:
        for batch in _batches(waiting, batch_size, outcome):
            # These facts are read before the file, because a recording may still grow.
            write.sources.update((job, source_facts(job)) for job in batch)
            yield batch

    enhancing = _Enhancing(model, options, lambda job, part: on_part(part * sizes[job]))
    try:
        # The generators are seeded for each file. They belong to the caller, who gets them back.
        with keep_generators():
            unwritten = _in_workers(enhancing, batches(), workers) if workers else enhancing.all(batches())
            # An error closes both generators, and with them the processes, before the records are closed. Otherwise
            # the processes would run until the error is forgotten, because its traceback refers to the generators.
            with closing(unwritten), closing(_written(unwritten, write, most_waiting=max(1, workers))) as results:
                for job, result in results:
                    if isinstance(result, _FullDiskError):
                        raise result
                    if isinstance(result, AudioZenError):
                        outcome.failed[job.source] = result
                    else:
                        outcome.written[job.source] = result
    except BaseException:
        with suppress(RunError):  # the first error says more
            records.close()
        raise
    records.close()
    outcome.wall = time.monotonic() - start
    return outcome


def _number_of_workers(requested: int | None, model: Enhancer) -> int:
    if requested and model.device.type != "cpu":
        raise RunError(
            f"several processes can't share the network on the device {model.device}",
            remedy="leave `--num-workers` out, or give `--device cpu`",
        )
    if wrong := out_of_range(enhance_jobs, {"num_workers": requested}):
        raise RunError(wrong, remedy="give the number of processes, or None for one per CPU")
    if requested and not workers_are_copies():
        get_logger().warning("this system can't fork processes, so one process enhances all files")
    if model.device.type != "cpu" or not workers_are_copies():
        return 0
    return usable_cpus() if requested is None else requested


def _batches(jobs: Sequence[Job], batch_size: int, outcome: EnhancementResults) -> Iterator[_Batch]:
    """Yields batches of files with equal length, rate and number of channels, because padding would change results."""
    if batch_size == 1:
        yield from ((job,) for job in jobs)
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
    yield from ((job,) for job in single)
    rest = sorted(infos.keys() - set(single), key=lambda job: (form(job), str(job.source)))
    for _, group in itertools.groupby(rest, form):
        same = tuple(group)
        yield from (same[begin : begin + batch_size] for begin in range(0, len(same), batch_size))


@dataclass(frozen=True, slots=True)
class _Enhancing:
    """Enhances batches of files, and writes the results of long files.

    Attributes:
        model: the network.
        options: how files are enhanced.
        on_part: called with a file and the fraction of it that has been read.
        owner: the ID of the process that places the results.
    """

    model: Enhancer
    options: Options
    on_part: Callable[[Job, float], object]
    owner: int = field(default_factory=os.getpid)

    def all(self, batches: Iterable[_Batch]) -> Generator[_Unwritten, None, None]:
        """Enhances the batches one after another."""
        for batch in batches:
            yield from self(batch)

    def __call__(self, batch: _Batch) -> list[_Unwritten]:
        """Returns the signal of each file of a batch, or its error. The signals of long files are already written."""
        # A network may draw random numbers. Workers begin with the same generators, and take the files in any order.
        seed_from_names(*(job.name for job in batch))
        try:
            return self._together(batch) if len(batch) > 1 else [(batch[0], self._alone(batch[0]))]
        except Exception as error:  # of the network: the other files may be fine
            return [(job, RunError.caused_by(error, f"`{job.source}` can't be enhanced:")) for job in batch]

    def _alone(self, job: Job) -> _Result | AudioZenError:
        def keep(pieces: Iterable[Tensor], target: Path, info: AudioInfo, form: Format) -> _Result:
            if info.seconds > _LONGEST_KEPT:
                return store_result(pieces, target, info, form, self.owner)
            return EnhancedResult(list(pieces), target, info, form)

        try:
            return enhance_file_by(
                self.model, keep, job.source, job.target, name=job.name, mix=self.options.mix,
                attenuation_limit=self.options.attenuation_limit, subtype=self.options.subtype,
                on_block=lambda frames, info: self.on_part(job, frames / info.frames),
            )  # fmt: skip
        except AudioZenError as error:
            return _explained(error)

    def _together(self, batch: _Batch) -> list[_Unwritten]:
        """Enhances files of equal length, rate and number of channels at once."""
        done: list[_Unwritten] = []
        waves: dict[Job, Tensor] = {}
        forms: dict[Job, tuple[AudioInfo, Format]] = {}
        for job in batch:
            try:
                with open_audio(job.source) as audio:
                    forms[job] = audio.info, Format.of_file(job.target, audio.subtype, self.options.subtype)
                    wave = torch.cat(list(audio.blocks(audio.info.frames)), dim=-1)
                    waves[job] = wave.mean(0, keepdim=True) if self.options.mix else wave
            except AudioZenError as error:
                done.append((job, error))
        if not waves:
            return done
        names = [job.name for job, wave in waves.items() for _ in wave]
        info = forms[next(iter(waves))][0]
        stream = self.model.enhance_stream(
            [torch.cat(list(waves.values()))], info.sr, names=names, attenuation_limit=self.options.attenuation_limit
        )
        try:
            enhanced = torch.split(join_pieces(stream, info.frames), [len(wave) for wave in waves.values()])
        except AudioZenError as error:  # an error that concerns all files, such as their sample rate
            return done + [(job, error) for job in waves]
        for job, wave in zip(waves, enhanced, strict=True):
            self.on_part(job, 1.0)
            done.append((job, EnhancedResult([wave], job.target, *forms[job])))
        return done


def _in_workers(enhancing: _Enhancing, batches: Iterable[_Batch], workers: int) -> Generator[_Unwritten, None, None]:
    """Enhances batches in several processes. The largest batches come first, so that all processes end together."""
    on_part = enhancing.on_part
    alone = replace(enhancing, on_part=lambda job, part: None)

    def work(batch: _Batch) -> list[_Unwritten]:
        # The workers also encode the files, because this process writes the files of all workers.
        return [(job, _encoded(found)) for job, found in alone(batch)]

    largest_first = sorted(batches, key=_size, reverse=True)
    if len(largest_first) < 2:
        yield from enhancing.all(largest_first)
        return
    for batch, results in run_jobs(work, [[batch] for batch in largest_first], workers=workers):
        if isinstance(results, FailedStep):
            remedy = "`--num-workers 0 --traceback` enhances in one process and shows where it fails"
            yield from ((job, RunError(results.reason, remedy=remedy)) for job in batch)
            continue
        for job, result in results:
            on_part(job, 1.0)
            yield job, result


def _encoded(found: _Result | AudioZenError) -> _Result | AudioZenError:
    try:
        return found.encode() if isinstance(found, EnhancedResult) else found
    except AudioZenError as error:
        return error


def _size(batch: _Batch) -> int:
    return sum(int(source_facts(job).get("size", 0)) for job in batch)


def _written(
    unwritten: Iterable[_Unwritten], write: Callable[[Job, _Result], EnhancedFile], *, most_waiting: int
) -> Generator[_Done, None, None]:
    """Writes each result while later files are enhanced, because writing may take as long as a small network.

    Args:
        unwritten: the enhanced signals.
        write: writes and records one signal.
        most_waiting: how many signals may wait for the disk.
    """
    writing: deque[tuple[Job, Future[EnhancedFile]]] = deque()
    with ThreadPoolExecutor(1) as disk:
        for job, found in unwritten:
            if isinstance(found, AudioZenError):
                yield job, found
                continue
            writing.append((job, disk.submit(write, job, found)))
            if len(writing) > most_waiting:
                yield _result(*writing.popleft())
        while writing:
            yield _result(*writing.popleft())


def _result(job: Job, writing: Future[EnhancedFile]) -> _Done:
    try:
        return job, writing.result()
    except AudioZenError as error:
        return job, _explained(error)


def _explained(error: AudioZenError) -> AudioZenError:
    """Returns the error. If the disk is full, returns an error that ends the whole command."""
    if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in NO_ROOM:
        return error
    full = _FullDiskError(
        f"the disk is full: {error.message}",
        remedy="make room and give the same command again, which skips what is done",
    )
    full.__cause__ = error
    return full
