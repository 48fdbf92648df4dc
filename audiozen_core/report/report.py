"""`audiozen report`: writes a page about runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.comparison.found import FoundSystem
from audiozen_core.comparison.named import parse_systems
from audiozen_core.errors import RunError
from audiozen_core.pages.clips import Clip
from audiozen_core.pages.page import render_page
from audiozen_core.report.chosen_files import ChosenFile
from audiozen_core.report.content import Content, Heard, read_content
from audiozen_core.report.recordings import clip_of, recordings_of
from audiozen_core.report.score_tables import MetricTable
from audiozen_core.report.training_samples import all_clips
from audiozen_core.report.words import CERTAIN, minus, plural
from audiozen_core.results.rounding import digits, fixed
from audiozen_core.storage.atomic import make_folder, write_whole

ASSETS = Path(__file__).parent / "assets"

SECONDS = 4.0
"""The greatest length of a clip if the user does not say it."""

MEGABYTES = 15.0
"""The greatest size of a page if the user does not say it."""

_LEAST_SECONDS = 1.5
_MOST_FACTS = 3
_PART_OF_SAMPLES = 0.25


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A page that was written.

    Attributes:
        path: the file.
        size: its size in bytes.
        clips: the number of clips in it.
        verdicts: which system is better than the first one, in sentences.
        told: what was changed to keep the page small, in sentences.
        missing: by the name of the system, why it has no scores, or some of its runs have none.
    """

    path: Path
    size: int
    clips: int
    verdicts: tuple[str, ...]
    told: tuple[str, ...]
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
    """Writes one HTML file about runs, which needs no network: scores, recordings, curves, settings, environment.

    A system is what `compare` takes: a run, the result folder of a test, a folder that `audiozen evaluate -o` has
    written, a CSV file, or several runs that differ in their seeds. The others are compared with the first one; a run
    alone is compared with the files that it was given. What does not exist, such as the test of a run, is told in the
    page.

    Args:
        systems: the systems, as for `compare`.
        output: the file to write.
        title: the title of the page; None for the names of the systems.
        files: how many worst, middle and best files the page has for each system; None for about 20 files in all.
        seconds: the greatest length of a clip. Of a longer file, the part is taken in which the systems differ most.
        metric: the metric that ranks the files; None for the first one that is compared.
        by: the conditions by which the files are grouped, as in `compare`; empty for those that the scores have.
        lower_is_better: the metrics for which a lower number is better, where the scores do not say it.
        conditions: a CSV, TSV or JSONL file with the conditions of the files.
        checkpoint: of runs, the checkpoint whose test is taken, such as `best`; None for the latest test.
        megabytes: the greatest size of the page. The clips get shorter or fewer if they don't fit, which is told.

    Raises:
        RunError: no system is named, or a name is not known.
        DataError: scores can't be read.
        OSError: the file can't be written; an earlier one is unchanged.

    Example:
        >>> audiozen.write_report(["exp/baseline", "exp/new"], "report.html").path  # doctest: +SKIP
        PosixPath('report.html')
    """
    named = parse_systems(systems)
    if not named:
        raise RunError("a report needs at least one system", remedy="name a run, a folder with scores, or a CSV file")
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
    content.heard, told = _fit(content, seconds, most)
    content.told += told
    text = _render(content, title)
    output = Path(output)
    make_folder(output.absolute().parent)
    write_whole(output, text)
    clips = sum(heard.clip is not None for heard in content.heard)
    size = len(text.encode())
    missing = {subject.name: subject.missing for subject in content.subjects if subject.missing}
    return WrittenReport(output, size, clips, content.summary.verdicts, tuple(content.told), missing)


def _render(content: Content, title: str) -> str:
    clip_ids = {heard.file.id: f"clip-{place}" for place, heard in enumerate(content.heard) if heard.clip}
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


def _fit(content: Content, seconds: float, most: float) -> tuple[list[Heard], list[str]]:
    """Makes the clips, shorter or fewer than wanted if they would be larger than this many bytes together."""
    told = []
    # The first of each kind says more than the second of any.
    by_rank = sorted(content.chosen, key=lambda file: file.rank)
    made = list(_make(content, by_rank, seconds))
    size, clips = _size(made), [one.clip for one in made if one.clip]
    if size > most and clips:
        # A picture has the same size, however long the clip is.
        audio = sum(len(track.audio) for clip in clips for track in clip.tracks)
        longest = max(clip.seconds for clip in clips)
        shorter = max(_LEAST_SECONDS, longest * (most - (size - audio)) / audio * 0.95)
        if shorter < longest:
            told.append(f"The clips have at most {shorter:.1f} seconds, so that the page stays small.")
            made = list(_make(content, by_rank, shorter))
    kept = list(made)
    while kept and _size(kept) > most:
        kept.pop()
    if len(kept) < len(made):
        left_out = f"{plural(len(made) - len(kept), 'clip')} of {len(made)}"
        told.append(f"Left out so that the page stays small: {left_out}.")
    place = {file.id: index for index, file in enumerate(content.chosen)}
    return sorted(kept, key=lambda heard: place[heard.file.id]), told


def _add_samples(content: Content, seconds: float, most: float) -> None:
    """Adds the clips of validation samples that are not larger than this many bytes together."""
    left_out = 0
    for run, clips in all_clips([one.run for one in content.facts], seconds):
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
        content.told.append(f"Left out so that the page stays small: {plural(left_out, 'clip')} of validation samples.")


def _size(heard: Sequence[Heard]) -> int:
    return sum(clip_size(one.clip) if one.clip else 500 for one in heard)


def clip_size(clip: Clip) -> int:
    """Returns about how many bytes a clip has in the page, with what the template writes around it."""
    return clip.size + 3000 + 1500 * len(clip.tracks)


def _make(content: Content, files: Sequence[ChosenFile], seconds: float) -> Iterator[Heard]:
    standing = content.standing
    systems = [system for system in standing.systems if system is not standing.given]
    every = [*systems, *([standing.given] if standing.given else [])]
    tables = content.tables[:_MOST_FACTS]
    for file in files:
        facts = {system.scored.name: list(_scores_of(file.id, system, tables)) for system in every}
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
            yield Heard(file, clip, heard=names.index(file.system) if file.system in names else 0)
        else:
            yield Heard(file, None, clip)


def _scores_of(name: str, system: FoundSystem, tables: Sequence[MetricTable]) -> Iterator[str]:
    """Yields the scores of a file, as they are written beside its recording."""
    scored = system.scored
    if name not in scored.ids:
        return
    for table in tables:
        metric = table.metric
        if metric.name in scored.metrics:
            value = float(scored.values(metric.name, [name])[0, 0])  # of several seeds, the first one is heard
            text = minus(fixed(value, digits(metric, [value])))
            yield f"{metric.label or metric.name} {text}{f' {metric.unit}' * bool(metric.unit)}"
