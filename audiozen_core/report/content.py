"""Collects the content of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiozen_core.comparison.configs import compare_settings
from audiozen_core.comparison.system_specs import SystemSpec
from audiozen_core.pages.clips import Clip
from audiozen_core.report.charts import Chart, make_charts
from audiozen_core.report.chosen_files import ChosenFile, FileOrder, choose_files, order_files
from audiozen_core.report.history import read_history
from audiozen_core.report.run_facts import RunFacts, differing_versions, read_facts
from audiozen_core.report.score_tables import MetricTable, metric_tables
from audiozen_core.report.standing import Standing, compare_subjects
from audiozen_core.report.subjects import ReportRun, Subject, find_subjects
from audiozen_core.report.summary import ReportSummary, summarise
from audiozen_core.results.compared import SettingRow


@dataclass(frozen=True, slots=True)
class ChosenClip:
    """A chosen file with its clip, or with the reason why there is no clip.

    Attributes:
        file: the file.
        clip: the clip; None if the recordings can't be played.
        missing: the reason why there is no clip; "" if there is a clip.
        selected: the index of the recording that is selected first, which belongs to the system in `file.system`.
    """

    file: ChosenFile
    clip: Clip | None
    missing: str = ""
    selected: int = 0


@dataclass(slots=True)
class Content:
    """The content of a report.

    Attributes:
        subjects: the systems that the user named.
        standing: the scores of the systems, and their comparison.
        summary: the summary at the top of the page.
        tables: a table for each metric.
        orders: the sorted files of each system.
        chosen: the files that were chosen for listening.
        charts: the training curves.
        facts: the state, times and environment of each run.
        settings: the settings in which the configurations of the runs differ.
        chosen_clips: the chosen files with their clips. It is filled after the page was laid out without clips.
        samples: the runs with validation samples, and their clips.
        without_samples: the runs without validation samples, and the reasons.
        size_notes: sentences about clips that were shortened or left out to limit the size of the page.
    """

    subjects: Sequence[Subject]
    standing: Standing
    summary: ReportSummary
    tables: Sequence[MetricTable]
    orders: Sequence[FileOrder]
    chosen: Sequence[ChosenFile]
    charts: Sequence[Chart]
    facts: Sequence[RunFacts]
    settings: Sequence[SettingRow]
    chosen_clips: list[ChosenClip] = field(default_factory=list)
    samples: list[tuple[ReportRun, list[Clip]]] = field(default_factory=list)
    without_samples: list[tuple[ReportRun, str]] = field(default_factory=list)
    size_notes: list[str] = field(default_factory=list)

    @property
    def chart_data(self) -> list[dict[str, Any]]:
        """The data of the charts for the script of the page."""
        return [chart.to_json() for chart in self.charts]

    @property
    def versions(self) -> dict[str, list[str]]:
        """The versions that differ between the runs, by distribution."""
        return differing_versions(self.facts)


def read_content(
    named: Sequence[SystemSpec],
    *,
    checkpoint: str = "",
    metric: str | None = None,
    by: Sequence[str] = (),
    lower_is_better: Sequence[str] = (),
    conditions: str | Path | None = None,
    files: int | None = None,
) -> Content:
    """Reads the content of a report, except for the audio.

    Args:
        named: the systems that the user named.
        checkpoint: for systems that are runs: the checkpoint whose latest test is read; "" for the latest test of any
            checkpoint.
        metric: the metric that ranks the files; None for the first compared metric.
        by: the conditions by which the files are grouped; empty for the conditions in the scores.
        lower_is_better: the metrics for which lower values are better, in case the scores don't give the direction.
        conditions: a CSV, TSV or JSONL file with the conditions of the files.
        files: the number of worst, of middle and of best files for each system; None for about 20 clips in total.

    Raises:
        AudioZenError: a folder is not a run folder and has no scores, scores can't be read, or a name is unknown.
    """
    subjects = find_subjects(named, checkpoint=checkpoint, by=by)
    standing = compare_subjects(subjects, metric=metric, by=by, lower_is_better=lower_is_better, conditions=conditions)
    tables, orders = metric_tables(standing), order_files(standing)
    runs = [run for subject in subjects for run in subject.runs]
    histories = [(run, read_history(run.folder)) for run in runs]
    facts = [read_facts(run) for run in runs]
    configs: dict[str, list[str | None]] = {}
    for run in runs:
        configs.setdefault(run.system, []).append(run.config)
    settings, _ = compare_settings(configs)
    return Content(
        subjects,
        standing,
        summarise(standing, tables, orders, facts, subjects),
        tables,
        orders,
        choose_files(orders, files),
        make_charts(histories),
        facts,
        settings,
    )
