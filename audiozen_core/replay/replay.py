"""`audiozen replay`: makes a batch of a run again, and the step that was made of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.data.tensors import map_tensors
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import RunError
from audiozen_core.hooks.progress import Progress
from audiozen_core.replay.batches import make_batch
from audiozen_core.replay.output import check_replaceable, whole_folder, write_numbers, write_samples
from audiozen_core.replay.run_folder import RunFolder, Saved
from audiozen_core.replay.samples import Sample, samples_of
from audiozen_core.replay.step import ReplayedStep, StepHook, train_to
from audiozen_core.replay.target import Place, Target, batches_of_epoch, find_place
from audiozen_core.replay.training import Built, ReplayedTraining, replayed_training, telling_the_folder

NUMBERS = "replay.json"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A batch that has been made again.

    Attributes:
        folder: the folder of its files.
        place: the batch.
        rank: its rank.
        batch: the batch as `training_step` gets it, on the CPU.
        samples: its samples.
        step: what the step has computed; None if only the batch was made.
        start: the checkpoint that the step was trained from; "" for the initial weights.
        recorded: what `metrics.jsonl` has for the step; empty if that is not known. None stands for a number that was
            not finite.
    """

    folder: Path
    place: Place
    rank: int
    batch: Any
    samples: Sequence[Sample]
    step: ReplayedStep | None
    start: str
    recorded: Mapping[str, float | None]

    @property
    def differing(self) -> list[str]:
        """The scalars of the step that `metrics.jsonl` has with another value."""
        if self.step is None:
            return []
        now = {name: value if math.isfinite(value) else None for name, value in self.step.scalars.items()}
        return [name for name, value in self.recorded.items() if name in now and now[name] != value]


@dataclass(slots=True)
class Progressing:
    """What a command shows while there is something to wait for.

    Attributes:
        begin: called once, with what is done and the number of batches; None if that is not known.
        done: called after each batch, with the number of those that are done.
    """

    begin: Callable[[str, int | None], object] = lambda what, total: None
    done: Callable[[int], object] = lambda count: None


def replay(
    folder: Path | str,
    target: Target,
    *,
    rank: int = 0,
    step: bool = False,
    catch_up: bool = False,
    device: str | None = None,
    output: Path | None = None,
    progress: Progressing | None = None,
) -> Replayed:
    """Makes a batch of a run again, and writes its audio, spectrograms and numbers into a folder.

    Args:
        folder: the folder of the run. Nothing in it changes, except for the folder that is written.
        target: the batch.
        rank: the rank whose batch is made, if the run has several processes.
        step: whether to run the batch forward and backward too, with the state that the training had there.
        catch_up: whether that state may be trained for from a checkpoint of an earlier epoch, or from the start.
        device: the device of the step; None for that of the run.
        output: the folder to write; by default `replay/epoch_0003_batch_0017` in the folder of the run.
        progress: what to show meanwhile.

    Raises:
        RunError: the folder is not that of a run, the run has no such batch, its data has changed, or no checkpoint is
            near enough.
        AudioZenError: the training can't be built, or its data can't be read.
    """
    run, progress = RunFolder(Path(folder).expanduser()), progress or Progressing()
    if output is not None:
        check_replaceable(output, NUMBERS)
    settings = run.settings(target)
    saved = run.before(target)
    hook = StepHook(progress.done) if step else None
    with replayed_training(run, settings, rank=rank, hook=hook, device=device) as training:
        # A run that starts anew reads its initial weights, which a batch does not need.
        continues = saved is not None or hook is None
        with telling_the_folder(), training.built(continues=continues) as built:
            run.check_size(built.loader.size)
            _check_passes(built, saved, settings.ranks)
            start = saved.progress if saved else Progress(ranks=settings.ranks)
            known, _ = run.recorded(target.step) if target.place is None else (None, {})
            place = find_place(built.trainer, built.loader, target, start, known)
            final = output or _default_folder(run, place, rank)
            check_replaceable(final, NUMBERS)
            if hook is None:
                batch = make_batch(
                    built.trainer,
                    built.loader,
                    place,
                    start,
                    on_begin=functools.partial(progress.begin, "making earlier batches of the stream"),
                    on_batch=progress.done,
                )
                batch = map_tensors(batch, lambda tensor: tensor.detach().cpu())
                found, recorded = None, {}
            else:
                found = _step(run, training, built, hook, place, saved, progress, catch_up=catch_up)
                batch = found.batch
                single = settings.ranks == 1 and found.closes_step
                recorded = run.recorded(found.step)[1] if single else {}
            replayed = Replayed(
                final,
                place,
                rank,
                batch,
                samples_of(batch, built.trainer.sr),
                found,
                saved.path.name if saved and found else "",
                recorded,
            )
    with whole_folder(final, NUMBERS) as temporary:
        described = write_samples(temporary, replayed.samples)
        write_numbers(temporary, NUMBERS, {**_described(run, replayed), "samples": described})
    return replayed


def _default_folder(run: RunFolder, place: Place, rank: int) -> Path:
    name = f"epoch_{place.epoch:04d}_batch_{place.batch:04d}{f'_rank_{rank}' if rank else ''}"
    return run.folder / "replay" / name


def _step(
    run: RunFolder,
    training: ReplayedTraining,
    built: Built,
    hook: StepHook,
    place: Place,
    saved: Saved | None,
    progress: Progressing,
    *,
    catch_up: bool,
) -> ReplayedStep:
    """Trains to the batch, if that is possible and not too far, and looks at the step."""
    ranks = training.rank_count
    start = saved.progress if saved else Progress()
    between = _batches_between(built, start, place)
    near = saved is not None and start.epoch == place.epoch - 1
    if ranks > 1 and between != 0:
        raise RunError(
            f"the step of {place} can't be made again by one process, because the run had {ranks} processes, and no "
            "checkpoint is right before it",
            notes=_checkpoints(run),
            remedy="leave --step out to make the batch alone, or name the batch that follows one of these checkpoints",
        )
    if not (near or catch_up or between == 0):
        far = "an unknown number of batches" if between is None else f"{between} batches"
        where = f"the nearest one, {saved.path.name}, is {far} earlier" if saved else f"the start is {far} earlier"
        raise RunError(
            f"epoch {place.epoch} has no checkpoint before batch {place.batch}: {where}",
            notes=_checkpoints(run),
            remedy="add --catch-up to train these batches again, which writes nothing into the run; or leave --step "
            "out to make the batch alone",
        )
    if saved is None and run.is_finetuning:
        raise RunError(
            "the first checkpoint of the run is gone, and a finetuning starts from the weights of another run",
            notes=_checkpoints(run),
            remedy="leave --step out to make the batch alone",
        )
    loaded = run.store.load(saved.path, map_location=built.trainer.state_device) if saved else None
    if between != 0:
        progress.begin(f"training from {saved.path.name if saved else 'the start'}", between)
    return train_to(training, built, hook, place, loaded)


def _batches_between(built: Built, start: Progress, place: Place) -> int | None:
    """Returns the number of batches from a progress to a place; None if an epoch does not say how many it has."""
    total = place.batch - start.batch
    for epoch in range(start.epoch + 1, place.epoch):
        count = batches_of_epoch(built.trainer, built.loader, epoch)
        if count is None:
            return None
        total += count
    return total


def _checkpoints(run: RunFolder) -> list[str]:
    names = [info.name for info in run.checkpoints()]
    return [f"checkpoints: {listed(names) if names else 'none'}"]


def _check_passes(built: Built, saved: Saved | None, ranks: int) -> None:
    """Compares the number of batches now with that of the pass that a checkpoint was saved in or after."""
    if saved is None or saved.progress.pass_batches is None or built.loader.stream_workers is not None:
        return
    progress = saved.progress
    built.loader.epoch(progress.passes + (progress.pass_batch > 0))
    now, before = built.loader.num_batches, progress.pass_batches
    if now is not None and progress.ranks == ranks and now != before:
        raise RunError(
            f"the training data has changed: a pass over it has {now} batches now, and had {before} when "
            f"{saved.path.name} was saved",
            remedy="restore the data; other samples would be in the batch",
        )


def _described(run: RunFolder, replayed: Replayed) -> dict[str, Any]:
    found: dict[str, Any] = {
        "run": str(run.folder),
        "epoch": replayed.place.epoch,
        "batch": replayed.place.batch,
        "rank": replayed.rank,
    }
    if (step := replayed.step) is not None:
        names = [row.name if row else None for row in (step.first_activation, step.first_gradient)]
        found |= {
            "step": step.step,
            "checkpoint": replayed.start or None,
            "losses": list(step.losses),
            "scalars": {name: value if math.isfinite(value) else None for name, value in step.scalars.items()},
            "recorded": dict(replayed.recorded),
            "differing": replayed.differing,
            "weights_not_finite": list(step.weights),
            "earlier_batches_not_finite": list(step.earlier),
            "first_activation_not_finite": names[0],
            "first_gradient_not_finite": names[1],
            "modules": [row.described() for row in step.rows],
        }
    return found
