"""What `Report.show` prints, as plain text."""

from __future__ import annotations

import io

from rich.console import Console

from audiozen_core.scoring.report import Report


def shown(report: Report) -> str:
    """Returns the text without trailing blanks. The narrow console shows that the table widens it."""
    file = io.StringIO()
    report.show("mini", Console(file=file, width=1, color_system=None, force_terminal=False))
    return "\n".join(line.rstrip() for line in file.getvalue().strip("\n").splitlines())
