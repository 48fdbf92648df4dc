"""Everything that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiozen_core.comparison.configs import compare_settings
from audiozen_core.comparison.named import NamedSystem
from audiozen_core.pages.clips import Clip
from audiozen_core.report.charts import Chart, make_charts
from audiozen_core.report.chosen_files import ChosenFile, FileOrder, choose_files, order_files
from audiozen_core.report.history import read_history
from audiozen_core.report.run_facts import RunFacts, differing_versions, read_facts
from audiozen_core.report.score_tables import MetricTable, metric_tables
from audiozen_core.report.standing import Standing, compare_subjects
from audiozen_core.report.subjects import RunOf, Subject, find_subjects
from audiozen_core.report.summary import Summary, summarise
from audiozen_core.results.compared import SettingRow


@dataclass(frozen=True, slots=True)
class Heard:
    """A chosen file, with its clip; or why it has none.

    Attributes:
        file: the file.
        clip: its clip; None if it can't be heard.
        missing: why it can't be heard.
        heard: the number of the recording that is heard first: that of the system that the file was chosen for.
    """

    file: ChosenFile
    clip: Clip | None
    missing: str = ""
    heard: int = 0


@dataclass(slots=True)
class Content:
    """Everything that a report shows.

    Attributes:
        subjects: the systems that the user has named.
        standing: their scores.
        summary: what the page says first.
        tables: a table for each metric.
        orders: the order of the files for each system.
        chosen: the files that are chosen to be heard.
        charts: the curves.
        facts: what is known about each run.
        settings: what differs in the configurations.
        heard: the clips, after they were made.
        samples: of each run with validation samples, their clips.
        without_samples: the runs without, and why.
        told: what was changed to keep the page small, in sentences.
    """

    subjects: Sequence[Subject]
    standing: Standing
    summary: Summary
    tables: Sequence[MetricTable]
    orders: Sequence[FileOrder]
    chosen: Sequence[ChosenFile]
    charts: Sequence[Chart]
    facts: Sequence[RunFacts]
    settings: Sequence[SettingRow]
    heard: list[Heard] = field(default_factory=list)
    samples: list[tuple[RunOf, list[Clip]]] = field(default_factory=list)
    without_samples: list[tuple[RunOf, str]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def chart_data(self) -> list[dict[str, Any]]:
        """The curves for the script of the page."""
        return [chart.to_json() for chart in self.charts]

    @property
    def versions(self) -> dict[str, list[str]]:
        """The versions that differ between the runs."""
        return differing_versions(self.facts)


def read_content(
    named: Sequence[NamedSystem],
    *,
    checkpoint: str = "",
    metric: str | None = None,
    by: Sequence[str] = (),
    lower_is_better: Sequence[str] = (),
    conditions: str | Path | None = None,
    files: int | None = None,
) -> Content:
    """Reads everything that a report shows, but the audio.

    Args:
        named: the systems that the user has named.
        checkpoint: of runs, the checkpoint whose latest test is read; "" for the latest test of any.
        metric: the metric that ranks the files; None for the first one that is compared.
        by: the conditions by which the files are grouped; empty for those that the scores have.
        lower_is_better: the metrics for which a lower number is better, where the scores do not say it.
        conditions: a CSV, TSV or JSONL file with the conditions of the files.
        files: how many worst, middle and best files are chosen for each system; None for about 20 clips in all.

    Raises:
        AudioZenError: a folder is neither a run nor has scores, scores can't be read, or a name is not known.
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
