"""Simulates how often the 95 % intervals of `audiozen compare` contain the true difference between two systems.

    python benchmarks/interval_coverage.py [TRIALS]

Each trial draws the scores of two systems, with several seeds each. The difference of a file is drawn from a skewed
(exponential) distribution. Each seed adds a normal deviation, and so does each file of each seed. The true mean
difference is zero, so 95 % of the intervals should contain zero. For comparison, two plain bootstrap intervals are
computed for the same scores: one resamples files and seeds, and the other resamples only the files.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from audiozen_core.results.intervals import bootstrap_interval
from audiozen_core.results.paired import paired_difference
from audiozen_core.results.rated import rated_difference
from audiozen_core.results.two_level import two_level_interval

Array = np.ndarray[Any, np.dtype[np.float64]]
CASES = ((2, 2), (3, 3), (5, 5), (3, 5), (1, 5))
SEED_DEVIATIONS = (0.05, 0.3)
FILES = 60
LISTENING_TESTS = ((6, 10), (10, 10), (20, 10), (20, 20))


def draw(generator: np.random.Generator, seeds: tuple[int, int], deviation: float) -> tuple[Array, Array]:
    """Draws the scores of a baseline and of a system with the same true mean, each [seeds, files]."""
    difficulty = generator.normal(10, 5, FILES)
    differences = generator.exponential(1.0, FILES) - 1
    return tuple(  # type: ignore[return-value]
        difficulty
        + shift
        + generator.normal(0, deviation, (count, 1)) * (count > 1)
        + generator.normal(0, 0.3, (count, FILES))
        for count, shift in zip(seeds, (0.0, differences), strict=True)
    )


def intervals(generator: np.random.Generator, baseline: Array, system: Array) -> dict[str, tuple[float, float]]:
    """Returns the interval of `audiozen compare`, and the two plain bootstrap intervals."""
    differences = system.mean(axis=0) - baseline.mean(axis=0)
    files = differences[generator.integers(0, FILES, (2000, FILES))].mean(axis=1)
    drawn = files.copy()
    for sign, values in ((-1, baseline), (1, system)):
        means = values.mean(axis=1) - values.mean()
        drawn += sign * means[generator.integers(0, len(means), (2000, len(means)))].mean(axis=1)
    plain = np.quantile(drawn, [0.025, 0.975])
    return {
        "compare": two_level_interval(
            differences.tolist(), (-baseline.mean(axis=1)).tolist(), system.mean(axis=1).tolist()
        ),
        "plain two-level": (float(plain[0]), float(plain[1])),
        "files only": bootstrap_interval(differences.tolist()),
    }


def coverage(trials: int, seeds: tuple[int, int], deviation: float) -> dict[str, tuple[float, float]]:
    """Returns, for each kind of interval, the fraction of the trials in which it contains zero, and its mean width."""
    generator = np.random.default_rng(1)
    hits: dict[str, int] = {}
    widths: dict[str, float] = {}
    for _ in range(trials):
        for name, (low, high) in intervals(generator, *draw(generator, seeds, deviation)).items():
            hits[name] = hits.get(name, 0) + (low <= 0 <= high)
            widths[name] = widths.get(name, 0.0) + high - low
    return {name: (hits[name] / trials, widths[name] / trials) for name in hits}


def coverage_of_single_runs(trials: int, files: int) -> tuple[float, float]:
    """Returns the fraction of the trials in which the interval for one run of each system contains the true mean.

    The first value is for normally distributed differences of files, and the second for exponential ones.
    """
    generator = np.random.default_rng(1)
    hits = [0, 0]
    for _ in range(trials):
        for place, sample in enumerate((generator.normal(0, 1, files), generator.exponential(1, files) - 1)):
            low, high = bootstrap_interval(sample.tolist())
            hits[place] += low <= 0 <= high
    return hits[0] / trials, hits[1] / trials


def coverage_of_ratings(trials: int, listeners: int, files: int) -> tuple[float, ...]:
    """Simulates listening tests of two systems that are equally good on average.

    Each listener and each file shifts the difference of the ratings by a random amount, with a standard deviation of 5
    each. Each single rating adds a deviation of 10.

    Returns:
        Six fractions of the trials. The first two are for the interval of `compare --ratings`: how often it contains
        zero, and how often its verdict is wrong. The next two are the same for an interval over the files alone, and
        the last two for an interval over the listeners alone.
    """
    generator = np.random.default_rng(1)
    counts = np.zeros(6)
    for _ in range(trials):
        values = generator.normal(0, 5, (listeners, 1)) + generator.normal(0, 5, files)
        values = values + generator.normal(0, 10, (listeners, files))
        both = rated_difference("", "", np.zeros_like(values), values, higher_is_better=True, tested=True)
        alone = [
            paired_difference("", "", np.zeros((1, of.size)), of[None])
            for of in (values.mean(axis=0), values.mean(axis=1))
        ]
        counts += [count for one in (both, *alone) for count in (one.low <= 0 <= one.high, bool(one.verdict))]
    return tuple(counts / trials)


def main() -> None:
    """Prints the results of all three simulations."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(f"{trials} trials of {FILES} files; nominal 95 %\nseeds   seed sd  coverage in % (mean width)")
    for seeds in CASES:
        for deviation in SEED_DEVIATIONS:
            found = coverage(trials, seeds, deviation)
            shown = ", ".join(f"{name} {100 * part:.1f} ({width:.2f})" for name, (part, width) in found.items())
            print(f"{seeds[0]} and {seeds[1]}  {deviation:<7}  {shown}", flush=True)
    print("one run each; coverage in % for normal and skewed differences")
    for files in (8, 20, 60, 200):
        normal, skewed = coverage_of_single_runs(trials, files)
        print(f"{files:>3} files  {100 * normal:.1f}  {100 * skewed:.1f}", flush=True)
    print("ratings: coverage and wrong verdicts in % over listeners and files, over files only, over listeners only")
    for listeners, files in LISTENING_TESTS:
        found = ", ".join(f"{100 * part:.1f}" for part in coverage_of_ratings(trials, listeners, files))
        print(f"{listeners:>2} listeners, {files:>2} files  {found}", flush=True)


if __name__ == "__main__":
    main()
