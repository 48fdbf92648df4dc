"""Runs an experiment with several seeds, and measures how much the results vary."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.config.load import load_config
from audiozen_core.config.overrides import as_assignments
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.result import RunResult
from audiozen_core.kinds import TRAINING, RunMode
from audiozen_core.logging import get_logger
from audiozen_core.results.files import finite_or_none
from audiozen_core.storage.atomic import write_whole


@dataclass(frozen=True, slots=True)
class SeedResults:
    """The results of runs that differ only in their seed.

    Attributes:
        seeds: the seeds.
        scalars: the values of each scalar, in the order of the seeds; NaN for a run without this scalar.
        file: the JSON file with these results.
    """

    seeds: Sequence[int]
    scalars: Mapping[str, Sequence[float]]
    file: Path

    @staticmethod
    def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
        """Returns the mean and the sample standard deviation, which divides by `n - 1`.

        The standard deviation of a single value is NaN. Both are NaN if any value is not finite.

        Example:
            >>> SeedResults.mean_and_deviation([1.0, 2.0, 3.0])
            (2.0, 1.0)
        """
        if not all(map(math.isfinite, values)):
            return math.nan, math.nan
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def run_seeds(
    file: Path | str,
    count: int,
    *,
    overrides: Sequence[str] = (),
    modes: Sequence[RunMode] = ("train",),
    ckpt_path: str | None = None,
    allow_drift: bool = False,
) -> SeedResults:
    """Runs an experiment with several seeds: the seed in the file, and the seeds that follow it.

    Each run has its own folder, such as `exp/baseline_seed_0`. A stopped run is continued, and a finished run is not
    trained again.

    Args:
        file: the TOML file.
        count: the number of seeds.
        overrides: the `overrides` of `Experiment.load`.
        modes: the modes of each run.
        ckpt_path: the checkpoint that finetuning starts from; see `Experiment.run`.
        allow_drift: the `allow_drift` of `Experiment.run`.

    Raises:
        AudioZenError: a run failed. The runs before it are complete.
    """
    config = load_config(file, overrides, modes).config
    seeds = [config.meta.seed + index for index in range(count)]
    trains = any(mode in TRAINING for mode in modes)
    results: list[RunResult] = []
    for index, seed in enumerate(seeds, start=1):
        get_logger().info(f"seed {seed}, run {index} of {count}")
        of_this_run = as_assignments({"+meta.seed": seed, "+meta.id": f"{config.id}_seed_{seed}"})
        experiment = Experiment.load(file, overrides=[*overrides, *of_this_run], modes=modes)
        resume = trains and experiment.folder.exists()
        results.append(experiment.run(resume=resume, ckpt_path=ckpt_path, allow_drift=allow_drift))
    found = [_scalars(result) for result in results]
    names = dict.fromkeys(name for scalars in found for name in scalars)
    values = {name: [scalars.get(name, math.nan) for scalars in found] for name in names}
    target = results[0].folder.with_name(f"{config.id}_seeds.json")
    complete = SeedResults(seeds, values, target)
    write_whole(target, json.dumps(_as_json(complete), indent=2) + "\n")
    return complete


def _scalars(result: RunResult) -> dict[str, float]:
    found: dict[str, float] = {}
    for mode, mode_result in result.modes.items():
        if mode not in TRAINING:
            found |= mode_result.scalars
        elif mode_result.best_score is not None:
            found["best score"] = mode_result.best_score
    return found


def _as_json(results: SeedResults) -> dict[str, object]:
    rows = {}
    for name, values in results.scalars.items():
        mean, deviation = results.mean_and_deviation(values)
        rows[name] = {
            "mean": finite_or_none(mean),
            "standard_deviation": finite_or_none(deviation),
            "values": [finite_or_none(value) for value in values],
        }
    return {"seeds": list(results.seeds), "scalars": rows}
