"""The one thing to change that would gain most, in a sentence. What it claims has been measured."""

from __future__ import annotations

import math
from collections.abc import Callable

from audiozen_core.diagnostics.listed import listed
from audiozen_core.experiment.threads import WORTHWHILE, fastest_count
from audiozen_core.profiling.profile import StepProfile
from audiozen_core.profiling.timeline import HOOK

Trial = Callable[[int], StepProfile | None]
"""Profiles the training with another number of workers; None if it can't be trained with it."""

# Smaller shares of a step are not worth a change.
_NOTABLE = 0.1
# Another number of workers must shorten a step at least by this factor to be advised.
_GAIN = 1.1

# Seconds. AudioZEN's own work takes less than a millisecond, whatever a step does.
_SHORT_STEP = 0.005


def advice(profile: StepProfile, trial: Trial) -> str:
    """Returns the sentence.

    Of all that takes a notable share of a step apart from the two passes, the largest decides. An advice about workers
    is tried first: if it does not help, the sentence says so.

    Args:
        profile: the profile.
        trial: called at most once.
    """
    costs = {name: profile.share(name) for name in profile.parts if name not in ("forward", "backward")}
    threads = _better_threads(profile)
    if threads is not None:
        # A part of both passes, which would be saved.
        passes = profile.share("forward") + profile.share("backward")
        costs["threads"] = passes * (1 - profile.thread_seconds[threads] / profile.thread_seconds[profile.threads])
    name = max(costs, key=lambda name: costs[name], default="")
    if not name or costs[name] < _NOTABLE:
        passes = profile.share("forward") + profile.share("backward")
        return f"Nothing stands out: {passes:.0%} of a step is forward and backward."
    if name == "threads":
        return _of_threads(profile, threads or 1)
    if name == "data":
        return _of_data(profile, trial)
    return _of_part(profile, name)


def _better_threads(profile: StepProfile) -> int | None:
    """Returns a number of threads that is faster than the present one; None if there is none, or it gains little."""
    times = {count: [seconds] for count, seconds in profile.thread_seconds.items()}
    if profile.threads not in times:
        return None
    best = fastest_count(times)
    now, then = profile.thread_seconds[profile.threads], profile.thread_seconds[best]
    # Fewer threads are better at the same speed, but that is not what costs time.
    return best if best != profile.threads and now > then * (WORTHWHILE if best > profile.threads else 1.0) else None


def _of_threads(profile: StepProfile, best: int) -> str:
    now, then = profile.thread_seconds[profile.threads], profile.thread_seconds[best]
    busy = f"; {profile.busy}" if profile.busy else ""
    if best < profile.threads:
        return (
            f"{profile.threads} threads are slower than {best} here ({1000 * now:.1f} ms forward and backward, instead "
            f"of {1000 * then:.1f}{busy}): set `num_threads = {best}` in [meta]."
        )
    return (
        f"{best} threads are {now / then:.1f} times as fast as {profile.threads} forward and backward: set "
        f"`num_threads = {best}` in [meta]."
    )


def _of_data(profile: StepProfile, trial: Trial) -> str:
    waits = f"{_who(profile)} waits for the data {profile.share('data'):.0%} of a step"
    wanted = wanted_workers(profile)
    tried = trial(wanted) if wanted > profile.num_workers else None
    if tried is not None and tried.seconds * _GAIN < profile.seconds:
        factor = profile.seconds / tried.seconds
        plural = "s" if wanted > 1 else ""
        instead = f"with {wanted} worker{plural} instead of {profile.num_workers} a step was {factor:.1f} times as fast"
        return f"{waits}: {instead}, so set `num_workers = {wanted}` in the `dataloader` of [dataset]."
    if tried is not None:
        plural = "workers instead of {0} make" if wanted > 1 else "worker instead of {0} makes"
        instead = f"{wanted} {plural.format(profile.num_workers)} it no faster"
        return f"{waits}, and {instead} on {_cores(profile)}: make the items cheaper, or shorter."
    if wanted > profile.num_workers:
        return f"{waits}, and it can't be trained with `num_workers = {wanted}`: make the items cheaper, or shorter."
    return f"{waits}, and {profile.num_workers} workers already share {_cores(profile)}: make the items cheaper."


def wanted_workers(profile: StepProfile) -> int:
    """Returns how many workers would make a batch in the time of the rest of a step.

    While workers can't keep up, each of them is busy for the whole step. Without workers, a batch is made in the time
    that is waited. No more are wanted than processors are there, or than there are now.
    """
    data, rest = profile.parts["data"], profile.seconds - profile.parts["data"]
    making = data if profile.num_workers == 0 else profile.num_workers * profile.seconds
    wanted = profile.cores if rest <= 0 else math.ceil(making / rest)
    return max(1, profile.num_workers, min(wanted, profile.cores))


def _of_part(profile: StepProfile, name: str) -> str:
    share = f"{profile.share(name):.0%} of a step"
    if name.startswith(HOOK):
        hook = name.removeprefix(HOOK)
        return f"The hook `{hook}` takes {share}: look at what it does in every step, or do it less often."
    if name == "transfer":
        return f"Moving a batch to the device, and `prepare_batch`, take {share}: look at what `prepare_batch` does."
    if name == "optimizer":
        return f"The optimiser takes {share}: try `fused = true` in its arguments, or larger batches."
    if name == "outside":
        return f"The time between epochs is {share}: an epoch is short, so set `steps_per_epoch` in [trainer.args]."
    if profile.seconds < _SHORT_STEP:
        return (
            f"AudioZEN's own work takes {share}, because a step is as short as {1000 * profile.seconds:.2f} ms: a "
            "larger `batch_size` trains on more samples in the same time."
        )
    return f"The checks of losses and gradients, and the records, take {share}: the trace shows which."


def _who(profile: StepProfile) -> str:
    return "The GPU" if profile.device.startswith("cuda") else "The network"


def _cores(profile: StepProfile) -> str:
    return f"{profile.cores} processor{'s' if profile.cores > 1 else ''}"


def left_out_note(profile: StepProfile) -> str:
    """Says which hooks were not measured; "" if all were."""
    if not profile.left_out:
        return ""
    return f"not measured, because the training keeps nothing and does not validate: {listed(profile.left_out)}"
