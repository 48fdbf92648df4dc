"""Recommends the one change that would speed up training most. All numbers in the advice are measured."""

from __future__ import annotations

import math
from collections.abc import Callable

from audiozen_core.diagnostics.listed import listed
from audiozen_core.experiment.threads import WORTHWHILE, fastest_count
from audiozen_core.profiling.profile import StepProfile
from audiozen_core.profiling.timeline import HOOK

WorkerTrial = Callable[[int], StepProfile | None]
"""Profiles training with the given number of data loader workers; returns None if training fails with this number."""

# The smallest share of a step that makes a part worth improving.
_NOTABLE = 0.1
# A different number of workers is recommended only if a step gets faster by at least this factor.
_GAIN = 1.1

# In seconds. AudioZEN's own work takes less than a millisecond per step, so it only matters in steps shorter than this.
_SHORT_STEP = 0.005


def advice(profile: StepProfile, trial: WorkerTrial) -> str:
    """Returns the advice, in one or two sentences.

    The advice is about the most expensive part of a step other than the forward and backward pass, if that part takes a
    notable share of the step. More workers are tried before they are recommended. If they don't help, the advice says
    so.

    Args:
        profile: the profile of training with the current settings.
        trial: profiles training with more workers; called at most once.
    """
    costs = {name: profile.share(name) for name in profile.parts if name not in ("forward", "backward")}
    threads = _better_threads(profile)
    if threads is not None:
        # The cost of the current number of threads is the share of a step that the better number would save.
        passes = profile.share("forward") + profile.share("backward")
        costs["threads"] = passes * (1 - profile.thread_seconds[threads] / profile.thread_seconds[profile.threads])
    name = max(costs, key=lambda name: costs[name], default="")
    if not name or costs[name] < _NOTABLE:
        passes = profile.share("forward") + profile.share("backward")
        return f"Nothing stands out: the forward and backward pass takes {passes:.0%} of a step."
    if name == "threads":
        return _of_threads(profile, threads or 1)
    if name == "data":
        return _of_data(profile, trial)
    return _of_part(profile, name)


def _better_threads(profile: StepProfile) -> int | None:
    """Returns a number of threads that is faster than the current number; None if no number is faster by enough."""
    if profile.threads not in profile.thread_seconds:
        return None
    best = fastest_count(profile.thread_seconds)
    now, then = profile.thread_seconds[profile.threads], profile.thread_seconds[best]
    # At about the same speed, `fastest_count` prefers fewer threads, but the advice should not recommend a change that
    # saves no time.
    return best if best != profile.threads and now > then * (WORTHWHILE if best > profile.threads else 1.0) else None


def _of_threads(profile: StepProfile, best: int) -> str:
    now, then = profile.thread_seconds[profile.threads], profile.thread_seconds[best]
    busy = f"; {profile.busy}" if profile.busy else ""
    if best < profile.threads:
        return (
            f"With {profile.threads} threads, the forward and backward pass is slower here than with {best} "
            f"({1000 * now:.1f} ms instead of {1000 * then:.1f}{busy}): set `num_threads = {best}` in [meta]."
        )
    return (
        f"With {best} threads, the forward and backward pass is {now / then:.1f} times as fast as with "
        f"{profile.threads}: set `num_threads = {best}` in [meta]."
    )


def _of_data(profile: StepProfile, trial: WorkerTrial) -> str:
    waits = f"{_consumer(profile)} waits for data during {profile.share('data'):.0%} of a step"
    wanted = wanted_workers(profile)
    tried = trial(wanted) if wanted > profile.num_workers else None
    if tried is not None and tried.seconds * _GAIN < profile.seconds:
        factor = profile.seconds / tried.seconds
        plural = "s" if wanted > 1 else ""
        faster = f"with {wanted} worker{plural} instead of {profile.num_workers} a step was {factor:.1f} times as fast"
        return f"{waits}: {faster}, so set `num_workers = {wanted}` in the `dataloader` of [dataset]."
    if tried is not None:
        plural = "workers instead of {0} don't" if wanted > 1 else "worker instead of {0} doesn't"
        no_faster = f"{wanted} {plural.format(profile.num_workers)} make a step faster"
        return f"{waits}, and {no_faster} on {_cores(profile)}: make the items cheaper, or shorter."
    if wanted > profile.num_workers:
        return f"{waits}, and training fails with `num_workers = {wanted}`: make the items cheaper, or shorter."
    return (
        f"{waits}, and {profile.num_workers} workers already share {_cores(profile)}: make the items cheaper. If the "
        "items wait for a disk or a network, try more workers."
    )


def wanted_workers(profile: StepProfile) -> int:
    """Returns how many workers are needed to load a batch in the time that the rest of a step takes.

    The estimate assumes that workers are busy during the whole step if training has to wait for them. Without workers,
    the time to load a batch is the time that training waits for the batch. The result is at most the number of
    processors, but never less than the current number of workers.
    """
    data, rest = profile.parts["data"], profile.seconds - profile.parts["data"]
    making = data if profile.num_workers == 0 else profile.num_workers * profile.seconds
    wanted = profile.cores if rest <= 0 else math.ceil(making / rest)
    return max(1, profile.num_workers, min(wanted, profile.cores))


def _of_part(profile: StepProfile, name: str) -> str:
    share = f"{profile.share(name):.0%} of a step"
    if name.startswith(HOOK):
        hook = name.removeprefix(HOOK)
        return f"The hook `{hook}` takes {share}: check what it does in every step, or run it less often."
    if name == "transfer":
        return f"Moving a batch to the device, and `prepare_batch`, take {share}: check what `prepare_batch` does."
    if name == "optimizer":
        return (
            f"The optimiser takes {share}: larger batches need fewer steps, and `audiozen check --build` measures "
            "whether `fused = true` would be faster."
        )
    if name == "outside":
        return f"The time between epochs is {share}: epochs are short, so set `steps_per_epoch` in [trainer.args]."
    if profile.seconds < _SHORT_STEP:
        return (
            f"AudioZEN's own work takes {share}, because a step takes only {1000 * profile.seconds:.2f} ms: a "
            "larger `batch_size` trains on more samples in the same time."
        )
    return f"Checking losses and gradients, and recording values, takes {share}: the trace shows which of them."


def _consumer(profile: StepProfile) -> str:
    return "The GPU" if profile.device.startswith("cuda") else "The network"


def _cores(profile: StepProfile) -> str:
    return f"{profile.cores} processor{'s' if profile.cores > 1 else ''}"


def left_out_note(profile: StepProfile) -> str:
    """Returns a note that names the hooks that were not measured; "" if all hooks were measured."""
    if not profile.left_out:
        return ""
    return f"not measured, because a profile saves nothing and does not validate: {listed(profile.left_out)}"
