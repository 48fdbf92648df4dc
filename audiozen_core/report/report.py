"""`audiozen report`: writes an HTML page about runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.comparison.load_systems import LoadedSystem
from audiozen_core.comparison.system_specs import parse_systems
from audiozen_core.diagnostics.listed import plural
from audiozen_core.errors import RunError
from audiozen_core.pages.clips import Clip
from audiozen_core.pages.page import render_page
from audiozen_core.report.chosen_files import ChosenFile
from audiozen_core.report.content import ChosenClip, Content, read_content
from audiozen_core.report.recordings import clip_of, recordings_of
from audiozen_core.report.score_tables import MetricTable
from audiozen_core.report.training_samples import all_clips
from audiozen_core.report.words import CERTAIN, minus
from audiozen_core.results.rounding import digits, fixed
from audiozen_core.storage.atomic import make_folder, write_whole

ASSETS = Path(__file__).parent / "assets"

SECONDS = 4.0
"""The default maximum duration of a clip in seconds."""

MEGABYTES = 15.0
"""The default maximum size of a page in megabytes."""

_LEAST_SECONDS = 1.5
_MOST_FACTS = 3
_PART_OF_SAMPLES = 0.25


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A page that was written.

    Attributes:
        path: the HTML file.
        size: the size of the file in bytes.
        clips: the number of clips in the page.
        verdicts: sentences that say whether each system is better than the first system.
        size_notes: sentences about clips that were shortened or left out to limit the size of the page.
        missing: why a system, or some of its runs, have no scores, by system name.
    """

    path: Path
    size: int
    clips: int
    verdicts: tuple[str, ...]
    size_notes: tuple[str, ...]
    missing: Mapping[str, str]


def write_report(
    systems: Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str] | Sequence[str | os.PathLike[str]]],
    output: str | Path = "report.html",
    *,
    title: str | None = None,
    files: int | None = None,
    seconds: float = SECONDS,
    metric: str | None = None,
    by: Sequence[str] = (),
    lower_is_better: Sequence[str] = (),
    conditions: str | Path | None = None,
    checkpoint: str | None = None,
    megabytes: float = MEGABYTES,
) -> WrittenReport:
    """Writes a self-contained HTML page about runs: scores, recordings, curves, settings and environment.

    A system can be a run, the result folder of a test, a folder that `audiozen evaluate -o` wrote, a CSV file, or
    several runs with different seeds, as in `compare`. All systems are compared with the first system. A single run is
    compared with its unprocessed input files. The page mentions what is missing, such as the test of a run.

    Args:
        systems: the systems, as for `compare`.
        output: the file to write.
        title: the title of the page; None for the names of the systems.
        files: the number of worst, of middle and of best files for each system; None for about 20 files in total.
        seconds: the maximum duration of a clip in seconds. Longer files are cut to the part in which the systems differ
            most.
        metric: the metric that ranks the files; None for the first compared metric.
        by: the conditions by which the files are grouped, as in `compare`; empty for the conditions in the scores.
        lower_is_better: the metrics for which lower values are better, in case the scores don't give the direction.
        conditions: a CSV, TSV or JSONL file with the conditions of the files.
        checkpoint: for systems that are runs: the checkpoint whose test is used, such as `best`; None for the latest
            test.
        megabytes: the maximum size of the page in megabytes. If the clips don't fit, some are shortened or left out,
            and the page says so.

    Raises:
        RunError: no system is given, or a name is unknown.
        DataError: scores can't be read.
        OSError: the file can't be written. An existing file stays unchanged.

    Example:
        >>> audiozen.write_report(["exp/baseline", "exp/new"], "report.html").path  # doctest: +SKIP
        PosixPath('report.html')
    """
    named = parse_systems(systems)
    if not named:
        raise RunError("a report needs at least one system", remedy="give a run, a folder with scores, or a CSV file")
    content = read_content(
        named,
        checkpoint=checkpoint or "",
        metric=metric,
        by=by,
        lower_is_better=lower_is_better,
        conditions=conditions,
        files=files,
    )
    title = title or " · ".join(subject.name for subject in content.subjects)
    page_size = len(_render(content, title).encode())
    most = megabytes * 1e6 - page_size
    _add_samples(content, seconds, _PART_OF_SAMPLES * most)
    most -= sum(clip_size(clip) for _, clips in content.samples for clip in clips)
    content.chosen_clips, size_notes = _fit(content, seconds, most)
    content.size_notes += size_notes
    text = _render(content, title)
    output = Path(output)
    make_folder(output.absolute().parent)
    write_whole(output, text)
    clips = sum(chosen.clip is not None for chosen in content.chosen_clips)
    size = len(text.encode())
    missing = {subject.name: subject.missing for subject in content.subjects if subject.missing}
    return WrittenReport(output, size, clips, content.summary.verdicts, tuple(content.size_notes), missing)


def _render(content: Content, title: str) -> str:
    clip_ids = {chosen.file.id: f"clip-{index}" for index, chosen in enumerate(content.chosen_clips) if chosen.clip}
    orders = [
        {"rows": [[row.id, row.difference, clip_ids.get(row.id)] for row in order.rows]} for order in content.orders
    ]
    return render_page(
        "report.html",
        [ASSETS],
        title=title,
        content=content,
        certain=CERTAIN,
        clip_ids=clip_ids,
        order_data=orders,
        labels={metric.name: metric.heading for metric in content.standing.metrics},
    )


def _fit(content: Content, seconds: float, most: float) -> tuple[list[ChosenClip], list[str]]:
    """Makes the clips, and shortens them or leaves some out if their total size exceeds `most` bytes.

    Returns the clips, and sentences about what was shortened or left out.
    """
    notes = []
    # Clips at the end are left out first, so the first worst, middle and best files come before the second ones.
    by_rank = sorted(content.chosen, key=lambda file: file.rank)
    made = list(_make(content, by_rank, seconds))
    size, clips = _size(made), [chosen.clip for chosen in made if chosen.clip]
    if size > most and clips:
        # Only the audio gets smaller, because the size of a picture does not depend on the duration.
        audio = sum(len(track.audio) for clip in clips for track in clip.tracks)
        longest = max(clip.seconds for clip in clips)
        shorter = max(_LEAST_SECONDS, longest * (most - (size - audio)) / audio * 0.95)
        if shorter < longest:
            notes.append(f"The clips were cut to {shorter:.1f} seconds to limit the size of the page.")
            made = list(_make(content, by_rank, shorter))
    kept = list(made)
    while kept and _size(kept) > most:
        kept.pop()
    if len(kept) < len(made):
        left_out = f"{plural(len(made) - len(kept), 'clip')} of {len(made)}"
        notes.append(f"Left out to limit the size of the page: {left_out}.")
    position = {file.id: index for index, file in enumerate(content.chosen)}
    return sorted(kept, key=lambda chosen: position[chosen.file.id]), notes


def _add_samples(content: Content, seconds: float, most: float) -> None:
    """Adds clips of validation samples, up to a total size of `most` bytes."""
    left_out = 0
    for run, clips in all_clips([facts.run for facts in content.facts], seconds):
        if isinstance(clips, str):
            content.without_samples.append((run, clips))
            continue
        kept = []
        for clip in clips:
            most -= clip_size(clip)
            if most >= 0:
                kept.append(clip)
        left_out += len(clips) - len(kept)
        content.samples += [(run, kept)] * bool(kept)
    if left_out:
        content.size_notes.append(
            f"Left out to limit the size of the page: {plural(left_out, 'clip')} of validation samples."
        )


def _size(files: Sequence[ChosenClip]) -> int:
    return sum(clip_size(file.clip) if file.clip else 500 for file in files)


def clip_size(clip: Clip) -> int:
    """Estimates the size of a clip in the page in bytes, including its HTML."""
    return clip.size + 3000 + 1500 * len(clip.tracks)


def _make(content: Content, files: Sequence[ChosenFile], seconds: float) -> Iterator[ChosenClip]:
    standing = content.standing
    systems = [system for system in standing.systems if system is not standing.unprocessed]
    with_scores = [*systems, *([standing.unprocessed] if standing.unprocessed else [])]
    tables = content.tables[:_MOST_FACTS]
    for file in files:
        facts = {system.scored.name: list(_scores_of(file.id, system, tables)) for system in with_scores}
        clip = clip_of(
            file.id,
            recordings_of(file.id, systems),
            systems=[system.scored.name for system in systems],
            seconds=seconds,
            facts=facts,
            notes=file.reasons,
        )
        if isinstance(clip, Clip):
            names = [track.name for track in clip.tracks]
            yield ChosenClip(file, clip, selected=names.index(file.system) if file.system in names else 0)
        else:
            yield ChosenClip(file, None, clip)


def _scores_of(name: str, system: LoadedSystem, tables: Sequence[MetricTable]) -> Iterator[str]:
    """Yields the scores of a file as texts for its recording."""
    scored = system.scored
    if name not in scored.ids:
        return
    for table in tables:
        metric = table.metric
        if metric.name in scored.metrics:
            value = float(scored.values(metric.name, [name])[0, 0])  # the recording is from the first seed
            text = minus(fixed(value, digits(metric, [value])))
            yield f"{metric.label or metric.name} {text}{f' {metric.unit}' * bool(metric.unit)}"
