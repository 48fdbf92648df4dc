r"""Formats tables as text, LaTeX (booktabs) or Markdown.

Example:
    >>> table = FormattedTable(("SNR", "SI-SDR"), ((("0", "5.1"), ("5", "8.0")), (("all", "6.5"),)), ("10 files",))
    >>> print(table.render("markdown"))
    | SNR | SI-SDR |
    | :-- | -----: |
    | 0   |    5.1 |
    | 5   |    8.0 |
    | all |    6.5 |
    <BLANKLINE>
    10 files
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from audiozen_core.diagnostics.printable import printable
from audiozen_core.errors import RunError
from audiozen_core.results.aligning import aligned, column_widths, markdown_table

TableForm = Literal["text", "latex", "markdown"]
FORMS: tuple[TableForm, ...] = get_args(TableForm)
SUFFIXES: dict[TableForm, str] = {"text": ".txt", "latex": ".tex", "markdown": ".md"}
"""The file extension for each form of a table."""

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "±": r"$\pm$",
    }
)  # fmt: skip


def check_form(form: str) -> None:
    """Raises `RunError` unless the form is one of `FORMS`."""
    if form not in FORMS:
        raise RunError(f"`{form}` is not a form of a table", remedy=f"use one of {', '.join(FORMS)}")


@dataclass(frozen=True, slots=True)
class FormattedTable:
    """A table with columns of text on the left, followed by columns of numbers.

    Attributes:
        headings: the headings of the columns.
        sections: the rows, grouped into sections. A rule separates the sections.
        notes: lines below the table.
        left: the number of text columns, which are left-aligned. The other columns are right-aligned.
    """

    headings: Sequence[str]
    sections: Sequence[Sequence[Sequence[str]]]
    notes: Sequence[str] = ()
    left: int = 1

    def render(self, form: TableForm) -> str:
        """Formats the table, without a newline at the end.

        Args:
            form: `text`, `latex` (for the package booktabs; the notes are comments) or `markdown`.

        Raises:
            RunError: the form is unknown.
        """
        check_form(form)
        sections = [[list(map(printable, row)) for row in section] for section in self.sections]
        table = FormattedTable(
            list(map(printable, self.headings)), sections, list(map(printable, self.notes)), self.left
        )
        return {"text": table._text, "latex": table._latex, "markdown": table._markdown}[form]()

    def _text(self) -> str:
        widths = column_widths([self.headings, *(row for section in self.sections for row in section)])
        right = range(self.left, len(widths))
        rule = ["-" * room for room in widths]
        rows = [self.headings, *(row for section in self.sections for row in (rule, *section))]
        lines = ["  ".join(aligned(row, widths, right)).rstrip() for row in rows]
        return "\n".join([*lines, *[""] * bool(self.notes), *self.notes])

    def _markdown(self) -> str:
        rows = [_without_bars(row) for section in self.sections for row in section]
        lines = markdown_table(_without_bars(self.headings), rows, self.left)
        return "\n".join([*lines, *(line for note in self.notes for line in ("", note))])

    def _latex(self) -> str:
        columns = "l" * self.left + "r" * (len(self.headings) - self.left)
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_row(self.headings)]
        for section in self.sections:
            lines += [r"\midrule", *map(_latex_row, section)]
        notes = [f"% {line}" for note in self.notes for line in note.splitlines()]
        return "\n".join([*notes, *lines, r"\bottomrule", r"\end{tabular}"])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(latex_cell, cells)) + r" \\"


def latex_cell(text: str) -> str:
    """Returns the text of a table cell in LaTeX."""
    # A row may start with this cell. LaTeX would read a leading bracket or asterisk as an argument of the `\\` that
    # ends the previous row.
    return "{}" * text.startswith(("[", "*")) + latex_text(text)


def latex_text(text: str) -> str:
    """Escapes the characters that have a special meaning in LaTeX."""
    return text.translate(_LATEX)


def _without_bars(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", r"\|") for cell in cells]
