"""Finds the results of a test in a run folder."""

from __future__ import annotations

import json
from pathlib import Path

from audiozen_core.errors import RunError
from audiozen_core.storage.atomic import INCOMPLETE

KIND = "kind"
"""A key that `audiozen evaluate` writes into `scores.json`, but a test does not."""

_SCORES, _AUDIO = "scores.csv", "audio"


def find_results(path: Path, checkpoint: str = "") -> Path | None:
    """Returns the folder with the results of one data set, given a path from the user.

    Args:
        path: a run folder, the folder of a test, or the folder of one data set in a test. In a run folder, the latest
            test is used.
        checkpoint: in a run folder, only use tests of this checkpoint, such as `best` or `epoch_0012`; "" for all.

    Returns:
        The folder that contains `scores.csv`; None if the path is something else, such as a folder of audio files.

    Raises:
        RunError: the run has no finished test, the test is not complete, or the test has several data sets.
    """
    if not path.is_dir():
        return None
    if any(part.endswith(INCOMPLETE) for part in path.absolute().parts):
        raise RunError(
            f"the results in `{path}` are incomplete: the test is still running, or it was stopped",
            remedy="wait until the test has ended, or run the test again",
        )
    if (path / _SCORES).is_file():
        return path
    if path.name == _AUDIO and (path.parent / _SCORES).is_file():
        return path.parent
    if (path / "checkpoints").is_dir() or (path / "run.lock").exists():
        return _results_of_run(path, checkpoint)
    return _results_of_test(path)


def find_audio(path: Path) -> Path | None:
    """Returns the folder with the audio of the results at a path; None if the path has no results of a test.

    Raises:
        RunError: for the reasons that `find_results` lists, or the test did not save its audio.
    """
    results = find_results(path)
    if results is None:
        return None
    if (results / _AUDIO).is_dir():
        return results / _AUDIO
    if path == results and not _is_from_test(results):
        return None  # an audio folder that also contains the scores of its files
    raise RunError(
        f"the results in `{results}` have no audio, because the test did not save it",
        remedy="test again with the trainer's setting that saves audio, such as `save_enhanced = true` in "
        "[trainer.args]; `audiozen compare` only needs the scores",
    )


def _results_of_run(run: Path, checkpoint: str) -> Path:
    tests = [folder for folder in (run / "test").glob("*") if folder.is_dir()]
    finished = [folder for folder in tests if not folder.name.endswith(INCOMPLETE)]
    if not finished:
        tests_found = "only an incomplete test" if tests else "no test"
        raise RunError(
            f"the run `{run}` has {tests_found}, so it has no results",
            remedy="test the run first: `audiozen run EXP.toml --mode test`",
        )
    if checkpoint:
        names = ", ".join(sorted(folder.name for folder in finished))
        finished = [folder for folder in finished if f"{folder.name}_".startswith(f"{checkpoint}_")]
        if not finished:
            raise RunError(
                f"the run `{run}` has no test of the checkpoint `{checkpoint}`; it has {names}",
                remedy=f"test this checkpoint: `audiozen run EXP.toml --mode test --ckpt-path {checkpoint}`",
            )
    latest = max(finished, key=lambda folder: (_time_written(folder), folder.name))
    results = _results_of_test(latest)
    if results is None:
        raise RunError(f"the test `{latest}` has no `{_SCORES}`", remedy="test the run again")
    return results


def _time_written(test: Path) -> int:
    """Returns when the scores of a test were written, in nanoseconds.

    The time of the test folder is used only if no scores exist, because it also changes when other files are added.
    """
    times = [path.stat().st_mtime_ns for path in test.glob(f"*/{_SCORES}")]
    return max(times, default=test.stat().st_mtime_ns)


def _results_of_test(folder: Path) -> Path | None:
    sets = sorted(path.parent for path in folder.glob(f"*/{_SCORES}") if _is_from_test(path.parent))
    if len(sets) > 1:
        names = ", ".join(f"`{path}`" for path in sets)
        raise RunError(f"the test `{folder}` has {len(sets)} data sets", remedy=f"give the path of one: {names}")
    return sets[0] if sets else None


def _is_from_test(folder: Path) -> bool:
    """Returns whether a test wrote the scores in a folder, and not `audiozen evaluate` or another program."""
    try:
        return KIND not in json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False
