"""A comparison of several systems with a baseline, which can be shown as a table and written to files."""

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
    """The result of `audiozen compare`: compared scores that can be shown as a table and written to files."""

    def table(self, form: TableForm = "text", *, intervals: bool = False, files: int = 3) -> str:
        """Returns the comparison as text, or as a table for a paper.

        The text has the differences with their intervals and tests, the files that differ most, and the settings
        that differ. The LaTeX or Markdown table has the means and a caption. The best value is bold, and asterisks mark
        significant differences.

        Args:
            form: `text`, `latex` (for the package booktabs) or `markdown`.
            intervals: whether to add the interval of each mean to a LaTeX or Markdown table.
            files: how many of the best and of the worst files to show for each metric and system, in the text only.
        """
        return text_of(self, files) if form == "text" else paper_table(self, form, intervals=intervals)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of `comparison.json`: see docs/compare.md."""
        return content_of(self)

    def write(self, folder: str | Path, form: TableForm = "text", *, intervals: bool = False) -> list[Path]:
        """Writes `comparison.json`, `differences.csv`, `files.csv` and the table, each completely or not at all.

        Args:
            folder: the folder; it is created if necessary.
            form: the form of the table, which becomes `comparison.txt`, `comparison.tex` or `comparison.md`.
            intervals: whether to add the interval of each mean to a LaTeX or Markdown table.

        Returns:
            The paths of the files.

        Raises:
            OSError: a file can't be written. An existing file with this name stays unchanged.
        """
        folder = Path(folder)
        written = write_values(self, folder)
        table = folder / f"comparison{SUFFIXES[form]}"
        write_whole(table, self.table(form, intervals=intervals) + "\n")
        return [*written, table]
