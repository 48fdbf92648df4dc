"""Warnings on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import click

from audiozen_core.diagnostics import Diagnostic, render


def show_warnings(findings: Iterable[Diagnostic]) -> None:
    """Prints each finding to standard error."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    for finding in findings:
        click.echo(render(finding, colour=colour) + "\n", err=True)
