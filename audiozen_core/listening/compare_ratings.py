"""Compares systems by the ratings of listeners."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import DataError, RunError
from audiozen_core.listening.key import CONTROL, ENDING, Key, read_key
from audiozen_core.listening.methods import MUSHRA
from audiozen_core.listening.ratings import Ratings, check_ratings, find_ratings, read_ratings
from audiozen_core.listening.screening import LOWEST, screened
from audiozen_core.results.compare_systems import compare_systems
from audiozen_core.results.comparison import Comparison
from audiozen_core.results.files import write_table
from audiozen_core.results.id_table import read_id_table
from audiozen_core.results.records import FileScores, MetricInfo
from audiozen_core.results.scores import Scores
from audiozen_core.results.systems import ScoredSystem
from audiozen_core.results.tables import TableForm
from audiozen_core.scoring.conditions import conditions_of


@dataclass(frozen=True, slots=True)
class RatedComparison(Comparison):
    """The comparison of systems by ratings. `write` also writes `ratings.csv`: all ratings, one in each row."""

    rows: tuple[tuple[str, str, str, str, float], ...] = ()

    def write(self, folder: str | Path, form: TableForm = "text", *, intervals: bool = False) -> list[Path]:
        """Writes the files of a comparison, and `ratings.csv` for other programs.

        Raises:
            OSError: a file can't be written. An earlier file of this name is unchanged.
        """
        written = Comparison.write(self, folder, form, intervals=intervals)
        header = ["listener", "id", "system", "scale", "rating"]
        return [*written, write_table(Path(folder) / "ratings.csv", header, self.rows)]


def compare_ratings(
    ratings: Sequence[str | Path],
    *,
    key: str | Path | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    by: Sequence[str] = (),
    conditions: str | Path | None = None,
    keep_all: bool = False,
) -> RatedComparison:
    """Compares systems with a baseline by the ratings of a listening test.

    Args:
        ratings: the files that the listeners have downloaded from the page, or folders with them.
        key: the key of the page; None looks for `*.key.json` beside the ratings and in the working directory.
        baseline: the name of the system that the others are compared with; None for the first one.
        metrics: the scales to compare: of P.835, `signal`, `background` and `overall`; None for all.
        by: the conditions by which the files are grouped, as in `evaluate`.
        conditions: a CSV, TSV or JSONL file with the conditions of the files.
        keep_all: whether the ratings of listeners count who do not recognise the hidden reference of MUSHRA.

    Raises:
        DataError: a file can't be read, was changed or belongs to another page; or no ratings are left.
        RunError: the key can't be found, or a name is not known.
    """
    read = [read_ratings(path) for path in find_ratings(ratings)]
    found = _key(read, key)
    for one in read:
        check_ratings(one, found)
    every = _by_listener(read)
    notes: list[str] = []
    kept = every
    if found.method is MUSHRA:
        good, missed = screened(every, found)
        for name, of in missed.items():
            what = "kept, because of --keep-all" if keep_all else "excluded (BS.1534-3; --keep-all keeps all listeners)"
            notes.append(
                f"warning: {name} rates the hidden reference below {LOWEST} in {of.below} of {of.trials} trials: {what}"
            )
        kept = every if keep_all else good
        if not kept:
            raise DataError(
                "no listener is left: all of them miss the hidden reference in more than 15 % of the trials",
                notes=[note.removeprefix("warning: ") for note in notes],
                remedy="`--keep-all` counts their ratings all the same",
            )
    complete = {name: _complete(one, found) for name, one in kept.items()}
    notes += _incomplete(kept, complete, found)
    complete = {name: of for name, of in complete.items() if of}
    if not complete:
        raise DataError(
            "nobody has rated all systems for any file, so there is nothing to compare",
            notes=notes,
            remedy="ask the listeners to go on where they have stopped",
        )
    ids = sorted({file for of in complete.values() for file in of})
    systems = _ordered([_scored(found, row, ids, complete) for row in found.systems], baseline)
    of_files: dict[str, dict[str, str]] = {name: {} for name in dict.fromkeys(by)}
    if by:
        table = read_id_table(conditions) if conditions is not None else None
        levels, told = conditions_of(list(of_files), ids, table)
        of_files = {name: {file: levels[file][name] for file in ids} for name in of_files}
        notes += told
    compared = compare_systems(systems, metrics=metrics, conditions=of_files, notes=notes, listeners=tuple(complete))
    rows = tuple(
        (name, found.stimuli[token].file, found.stimuli[token].system, scale, float(value))
        for name, one in kept.items()
        for token, of in one.values.items()
        for scale, value in of.items()
    )
    fields: dict[str, Any] = {name: getattr(compared, name) for name in compared.__dataclass_fields__}
    return RatedComparison(**fields, rows=rows)


def _key(read: Sequence[Ratings], given: str | Path | None) -> Key:
    if given is not None:
        return read_key(Path(given))
    folders = dict.fromkeys([*(one.path.absolute().parent for one in read), Path.cwd()])
    page = read[0].page
    for path in (path for folder in folders for path in sorted(folder.glob(f"*{ENDING}"))):
        try:
            key = read_key(path)
        except DataError:  # that of another version; it is not what we look for
            continue
        if key.page == page:
            return key
    raise RunError(
        f"the key of the page `{page}` is not beside the ratings, nor in the working directory",
        remedy="name it with `--key`: `audiozen listen` has written it beside the page, as `PAGE.key.json`",
    )


def _by_listener(read: Sequence[Ratings]) -> dict[str, Ratings]:
    found: dict[str, Ratings] = {}
    for one in read:
        if one.listener in found:
            raise DataError(
                f"`{found[one.listener].path}` and `{one.path}` are both of the listener `{one.listener}`",
                remedy="give the last one only; if two people have chosen the same name, change `listener` in one of "
                "the files",
            )
        found[one.listener] = one
    return found


def _complete(ratings: Ratings, key: Key) -> dict[str, dict[str, dict[str, int]]]:
    """Returns the files for which a listener has rated all systems in all scales: file to system to scale to rating."""
    scales = {scale.name for scale in key.method.scales}
    of: dict[str, dict[str, dict[str, int]]] = {}
    for token, values in ratings.values.items():
        if scales <= values.keys():
            stimulus = key.stimuli[token]
            of.setdefault(stimulus.file, {})[stimulus.system] = dict(values)
    return {file: systems for file, systems in of.items() if len(systems) == len(key.systems)}


def _incomplete(kept: Mapping[str, Ratings], complete: Mapping[str, Mapping[str, object]], key: Key) -> list[str]:
    files = {stimulus.file for stimulus in key.stimuli.values()}
    notes = []
    for name in kept:
        count, rated = len(complete[name]), len(kept[name].values)
        if count < len(files):
            over = f", of which {rated} of {len(key.stimuli)} recordings are rated" if rated else ""
            notes.append(
                f"warning: {name} has not come to the end: {count} of {len(files)} files count{over}; a file counts if "
                "all of its recordings are rated"
            )
    return notes


def _scored(
    key: Key, row: Any, ids: Sequence[str], complete: Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]]
) -> ScoredSystem:
    ratings = {
        scale.name: {
            file: [float(of[file][row.name][scale.name]) if file in of else math.nan for of in complete.values()]
            for file in ids
        }
        for scale in key.method.scales
    }
    described = f"ratings of {len(complete)} listener{'s' * (len(complete) > 1)}, {key.method.standard}"
    metrics = tuple(
        MetricInfo(
            scale.name,
            scale.label,
            described=f"{scale.label}: {described}, from {scale.low} to {scale.high}",
            identity={"method": key.method.standard, "page": key.page},
        )
        for scale in key.method.scales
    )
    files = tuple(FileScores(file, {name: float(np.nanmean(of[file])) for name, of in ratings.items()}) for file in ids)
    audio = {one.file: one.path for one in key.stimuli.values() if one.system == row.name and one.path}
    scores = Scores(metrics, files, sources={"scores": f"the page {key.page}"})
    return ScoredSystem(row.name, (scores,), (row.source,), (audio,), ratings, row.role == CONTROL)


def _ordered(systems: list[ScoredSystem], baseline: str | None) -> list[ScoredSystem]:
    if baseline is None:
        return systems
    names = [system.name for system in systems]
    if baseline not in names:
        note = did_you_mean(nearest(baseline, names))
        raise RunError(
            f"no system is called `{baseline}`{f': {note}' if note else ''}",
            remedy=f"choose the baseline from {', '.join(names)}",
        )
    return [systems[names.index(baseline)], *(system for system in systems if system.name != baseline)]
