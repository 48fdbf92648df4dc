"""Prints diagnostics as text, as JSON or as annotations for GitHub."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from audiozen_core.diagnostics.diagnostic import Diagnostic, as_annotation, as_data, render

FORMATS = ("text", "json", "github")


def show_findings(findings: Sequence[Diagnostic], form: str = "text") -> None:
    """Prints diagnostics. Text goes to standard error; JSON and annotations for GitHub go to standard output."""
    if form == "json":
        import json

        click.echo(json.dumps([as_data(finding) for finding in findings], indent=2, ensure_ascii=False))
        return
    if form == "github":
        for finding in findings:
            click.echo(as_annotation(finding))
        return
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    for finding in findings:
        click.echo(render(finding, colour=colour) + "\n", err=True)
    errors = sum(finding.severity == "error" for finding in findings)
    if errors > 1:
        click.echo(f"{errors} errors", err=True)
