"""The comparison of several systems with a baseline: its tables and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.results.compared import ComparedScores
from audiozen_core.results.comparison_files import content_of, write_values
from audiozen_core.results.comparison_tables import text_of
from audiozen_core.results.paper_table import paper_table
from audiozen_core.results.tables import SUFFIXES, TableForm
from audiozen_core.storage.atomic import write_whole


@dataclass(frozen=True, slots=True)
class Comparison(ComparedScores):
    """The comparison of systems with a baseline, which `audiozen compare` computes: `ComparedScores` with tables."""

    def table(self, form: TableForm = "text", *, intervals: bool = False, files: int = 3) -> str:
        """Returns a table.

        As text, it has the differences with their intervals and tests, the files that differ most, and the settings
        that differ. As LaTeX or Markdown, it is a table of the means for a paper, with a caption: the best value is
        bold, and asterisks mark significant differences.

        Args:
            form: `text`, `latex` (for the package booktabs) or `markdown`.
            intervals: whether a table for a paper has the interval of each mean.
            files: how many of the best and worst files the text shows for each metric and system.
        """
        return text_of(self, files) if form == "text" else paper_table(self, form, intervals=intervals)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of `comparison.json`: see docs/compare.md."""
        return content_of(self)

    def write(self, folder: str | Path, form: TableForm = "text", *, intervals: bool = False) -> list[Path]:
        """Writes `comparison.json`, `differences.csv`, `files.csv` and the table, each completely or not at all.

        Args:
            folder: the folder; it is made if it is missing.
            form: the form of the table, which is `comparison.txt`, `comparison.tex` or `comparison.md`.
            intervals: whether a table for a paper has the interval of each mean.

        Returns:
            The files.

        Raises:
            OSError: a file can't be written. An earlier file of this name is unchanged.
        """
        folder = Path(folder)
        written = write_values(self, folder)
        table = folder / f"comparison{SUFFIXES[form]}"
        write_whole(table, self.table(form, intervals=intervals) + "\n")
        return [*written, table]
