"""Chooses the number of threads for `num_threads = "auto"`, and caches the choice.

The chosen number makes a training step fastest. The number of threads can change the last bit of a result, so the
choice is written into the configuration of the run. The run's record and checkpoints contain the configuration, so a
resumed run or a replay uses the same number of threads.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import tomli
import torch

from audiozen_core import __version__
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.config.checked import CheckedConfig
from audiozen_core.config.sections import AUTO
from audiozen_core.config.toml.emit import emit
from audiozen_core.data.loader import BatchLoader
from audiozen_core.distributed.cpus import usable_cpus
from audiozen_core.distributed.ranks import Ranks
from audiozen_core.errors import AudioZenError
from audiozen_core.experiment.lazy_modules import first_batch
from audiozen_core.experiment.process import device_name
from audiozen_core.experiment.provenance import code_of
from audiozen_core.experiment.threads import (
    ThreadTimes,
    busy_reason,
    disturbed_reason,
    fastest_count,
    thread_counts,
    time_threads,
)
from audiozen_core.experiment.timed_pass import run_pass
from audiozen_core.kinds import affects
from audiozen_core.logging import get_logger, silenced
from audiozen_core.registry.code_hash import code_hash
from audiozen_core.registry.provided_modules import numba_version
from audiozen_core.storage.atomic import make_folder, read_regular, write_whole
from audiozen_core.storage.cache_folder import default_cache
from audiozen_core.trainer.base_trainer import BaseTrainer

# Part of the name of each cached file. Change it together with the way of measuring, so that choices of an earlier way
# are not read.
_SCHEME = 2

Build = Callable[[], tuple[BaseTrainer, Mapping[Any, list[BatchLoader]]]]
"""Builds a trainer and its data for a measurement. Both are discarded afterwards."""


@dataclass(frozen=True, slots=True)
class ThreadChoice:
    """The chosen number of threads, and the reason for the choice as text."""

    count: int
    reason: str


def with_chosen_threads(
    checked: CheckedConfig, ranks: Ranks, trained: Path | None, build: Build | None
) -> tuple[CheckedConfig, ThreadChoice | None]:
    """Replaces `num_threads = "auto"` in a configuration with a number. Call it within the experiment's `scope`.

    Args:
        checked: the configuration.
        ranks: the processes of the run.
        trained: the checkpoint that training resumes from or that an evaluation uses; None if training starts anew.
        build: builds the trainer and the data for timing a training step; None for an evaluation.

    Returns:
        The configuration, and the choice. The choice is None if `num_threads` is not `auto`.
    """
    if checked.config.meta.num_threads != AUTO:
        return checked, None
    choice = _checkpoint_choice(trained) or _choose(checked, ranks, build)
    get_logger().info(f"num_threads = {choice.count}", reason=choice.reason)
    composition = dataclasses.replace(checked.composition, values=copy.deepcopy(checked.composition.values))
    composition.values["meta"]["num_threads"] = choice.count
    meta = dataclasses.replace(checked.config.meta, num_threads=choice.count)
    config = dataclasses.replace(checked.config, meta=meta, text=emit(composition.values))
    return dataclasses.replace(checked, config=config, composition=composition), choice


def _checkpoint_choice(trained: Path | None) -> ThreadChoice | None:
    """Returns the choice of the run that saved a checkpoint; None for a file of weights or an unknown choice."""
    if trained is None or not trained.is_dir():
        return None
    extra = CheckpointStore(trained.parent).load(trained, owners=("extra",)).state.get("extra", {})
    count = tomli.loads(extra.get("config", "")).get("meta", {}).get("num_threads")
    return ThreadChoice(count, f"the training that saved {trained.name} used {count}") if type(count) is int else None


def _choose(checked: CheckedConfig, ranks: Ranks, build: Build | None) -> ThreadChoice:
    if build is None:
        return ThreadChoice(1, "the number of threads in the training is unknown")
    counts = thread_counts(usable_cpus())
    if ranks.several:
        return ThreadChoice(1, "several processes share the machine")
    if len(counts) == 1:
        return ThreadChoice(1, "this process may use one processor only")
    if (device := device_name(checked.config.meta)) != "cpu":
        return ThreadChoice(1, f"the step runs on {device}")
    if busy := busy_reason():
        return ThreadChoice(1, busy)
    file = default_cache() / "threads" / f"{_digest(checked)}.json"
    if cached := _cached_choice(file, counts):
        return cached
    try:
        times = _times(build, counts)
    except AudioZenError as error:
        # Either training will raise the same error, or the forward and backward pass needs something that a hook
        # prepares in `on_run_start`.
        return ThreadChoice(1, f"a forward and backward pass outside a training run fails: {error.message}")
    if disturbed := disturbed_reason(times):
        return ThreadChoice(1, disturbed)
    count = fastest_count(times.best)
    reason = _speed_text(times.best, count)
    content = {"num_threads": count, "reason": reason, "measured": f"{date.today():%Y-%m-%d}", "seconds": times.best}
    with suppress(OSError):  # if the file can't be written, the next run measures again
        make_folder(file.parent)
        write_whole(file, json.dumps(content, indent=2) + "\n")
    return ThreadChoice(count, reason)


def _times(build: Build, counts: Sequence[int]) -> ThreadTimes:
    """Times forward and backward passes of the first batch, with networks that are discarded afterwards.

    The run later builds its own networks and seeds the generators again, so the measurement does not affect the run's
    result.
    """
    with silenced():
        trainer, loaders = build()
        try:
            batch, batch_idx = first_batch(trainer, loaders["train"][0])
            trainer.set_mode(training=True)
            return time_threads(partial(run_pass, trainer, batch, batch_idx), counts)
        finally:
            for loader in chain.from_iterable(loaders.values()):
                loader.close()
            del trainer, loaders
            gc.collect()  # the objects of the trainer form reference cycles


def _speed_text(best: Mapping[int, float], count: int) -> str:
    """Describes how fast `count` threads are compared with one thread; if `count` is 1, describes the best other
    number.

    >>> _speed_text({1: 0.9, 2: 0.5}, 2), _speed_text({1: 0.9, 2: 0.8, 4: 2.0}, 1)
    ('2 threads are 1.8 times as fast as 1', '2 threads are only 1.1 times as fast as 1')
    """
    named = count if count > 1 else min((other for other in best if other > 1), key=lambda other: best[other])
    only = "" if count > 1 else "only "
    return f"{named} threads are {only}{best[1] / best[named]:.1f} times as fast as 1"


def _cached_choice(file: Path, counts: list[int]) -> ThreadChoice | None:
    """Returns the choice of an earlier measurement; None if the file does not exist or can't be read."""
    try:
        content = json.loads(read_regular(file))
        count, reason, measured = content["num_threads"], str(content["reason"]), str(content["measured"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # `True` and `1.0` equal 1, but would be written into the record of the run as they are.
    is_valid = type(count) is int and count in counts
    return ThreadChoice(count, f"{reason}, measured on {measured}") if is_valid else None


def _digest(checked: CheckedConfig) -> str:
    """Returns a hash of what affects a choice: scheme, machine, versions, experiment and code.

    The code is that of the experiment's own modules, of the components and the modules that they import from their own
    packages, and of the trainer. Of other packages that these modules import, the version counts.
    """
    step = {name: value for name, value in checked.composition.values.items() if affects(name, "step")}
    # Hooks may replace the network, or set its precision. Hooks that only watch are left out.
    step["hooks"] = [{"path": hook.path, "args": hook.args} for hook in checked.affecting_hooks()]
    defaults = [hook.path for hook in checked.default_hooks if getattr(hook.target, "affects_training", True)]
    # Kernels compiled by numba use one thread, so the best number of threads depends on whether numba is installed.
    versions = [__version__, str(torch.__version__), numba_version()]
    meta = checked.config.meta
    machine = [_SCHEME, _processor(), usable_cpus(), versions, meta.use_amp, meta.use_deterministic_algorithms]
    targets = [part.target for component in checked.components.values() for part in component.walk()]
    affecting = [target for target in targets if getattr(target, "affects_training", True)]
    installed = code_hash(affecting, rooms=("audio", "data", "trainer"), own_folders=False)
    text = json.dumps([machine, emit(step), defaults, code_of(checked), installed])
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:32]


def _processor() -> str:
    """Returns the name of the processor; "" if the name is unknown.

    The nodes of a cluster may share a cache folder, but have different processors.
    """
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "CPU part")):
                return line.partition(":")[2].strip()
    return ""
