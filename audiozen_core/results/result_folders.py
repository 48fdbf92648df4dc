"""Finds the results of a test in the folder of a run."""

from __future__ import annotations

import json
from pathlib import Path

from audiozen_core.errors import RunError
from audiozen_core.storage.atomic import INCOMPLETE

KIND = "kind"
"""The key in `scores.json` that `audiozen evaluate` writes, and a test does not."""

_SCORES, _AUDIO = "scores.csv", "audio"


def find_results(path: Path, checkpoint: str = "") -> Path | None:
    """Returns the folder with the results of one data set, for a path that a user has named.

    Args:
        path: the folder of a run, whose latest test is taken; the folder of a test; or that of one data set in it.
        checkpoint: of a run, only tests of this checkpoint are taken, such as `best` or `epoch_0012`; "" for all.

    Returns:
        The folder, which has `scores.csv`; None if the path is something else, such as a folder of audio files.

    Raises:
        RunError: the run has no finished test, the test is still being written, or it has several data sets.
    """
    if not path.is_dir():
        return None
    if any(part.endswith(INCOMPLETE) for part in path.absolute().parts):
        raise RunError(
            f"the results in `{path}` are not complete: the test is still running, or was stopped",
            remedy="wait until the test has ended, or run it again",
        )
    if (path / _SCORES).is_file():
        return path
    if path.name == _AUDIO and (path.parent / _SCORES).is_file():
        return path.parent
    if (path / "checkpoints").is_dir() or (path / "run.lock").exists():
        return _of_run(path, checkpoint)
    return _of_test(path)


def find_audio(path: Path) -> Path | None:
    """Returns the folder with the audio of the results that a path names; None if the path is something else.

    Raises:
        RunError: as for `find_results`; or the test has kept no audio.
    """
    results = find_results(path)
    if results is None:
        return None
    if (results / _AUDIO).is_dir():
        return results / _AUDIO
    if path == results and not _is_of_test(results):
        return None  # a folder of audio into which somebody has written the scores of its files
    raise RunError(
        f"the results in `{results}` have no audio, because `save_enhanced` was off in the test",
        remedy="test again with `save_enhanced = true` in [trainer.args]; `audiozen compare` needs the scores only",
    )


def _of_run(run: Path, checkpoint: str) -> Path:
    tests = [folder for folder in (run / "test").glob("*") if folder.is_dir()]
    finished = [folder for folder in tests if not folder.name.endswith(INCOMPLETE)]
    if not finished:
        state = "a test that is not complete" if tests else "no test"
        raise RunError(
            f"the run `{run}` has {state}, so it has no results",
            remedy="test it first: `audiozen run EXP.toml --mode test`",
        )
    if checkpoint:
        names = ", ".join(sorted(folder.name for folder in finished))
        finished = [folder for folder in finished if f"{folder.name}_".startswith(f"{checkpoint}_")]
        if not finished:
            raise RunError(
                f"the run `{run}` has no test of the checkpoint `{checkpoint}`; it has {names}",
                remedy=f"test it: `audiozen run EXP.toml --mode test --ckpt-path {checkpoint}`",
            )
    latest = max(finished, key=lambda folder: (_written(folder), folder.name))
    found = _of_test(latest)
    if found is None:
        raise RunError(f"the test `{latest}` has no `{_SCORES}`", remedy="test the run again")
    return found


def _written(test: Path) -> int:
    """Returns when the scores of a test were written. The time of the folder changes with each file in it."""
    times = [path.stat().st_mtime_ns for path in test.glob(f"*/{_SCORES}")]
    return max(times, default=test.stat().st_mtime_ns)


def _of_test(folder: Path) -> Path | None:
    sets = sorted(path.parent for path in folder.glob(f"*/{_SCORES}") if _is_of_test(path.parent))
    if len(sets) > 1:
        names = ", ".join(f"`{path}`" for path in sets)
        raise RunError(f"the test `{folder}` has {len(sets)} data sets", remedy=f"name one of them: {names}")
    return sets[0] if sets else None


def _is_of_test(folder: Path) -> bool:
    """Returns whether the scores in a folder are those of a test, and not of `audiozen evaluate` or another program."""
    try:
        return KIND not in json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False
