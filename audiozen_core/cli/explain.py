"""`audiozen explain`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from audiozen_core.cli.options import OVERRIDES, TRACEBACK, WITHOUT
from audiozen_core.errors import AudioZenError

_CODE = re.compile(r"AZ\d{3}", re.IGNORECASE)


@click.command(name="explain")
@click.argument("subject", metavar="EXP.toml|CODE")
@click.argument("key", required=False)
@OVERRIDES
@WITHOUT
@TRACEBACK
def command(subject: str, key: str | None, overrides: tuple[str, ...]) -> None:
    """Show where a value of an experiment comes from, or what an error code such as AZ101 means.

    \b
    audiozen explain exp.toml                      the whole effective config
    audiozen explain exp.toml optimizer.args.lr    one value: where it was set, what it replaced, its meaning
    audiozen explain AZ101                         what an error code means
    """
    if _CODE.fullmatch(subject) and key is None:
        click.echo(_code(subject.upper()))
        return
    from audiozen_core import logging
    from audiozen_core.config.explain import effective_toml, explain
    from audiozen_core.config.load import load_config

    logging.configure()
    loaded = load_config(Path(subject), overrides, modes=())
    loaded.raise_errors()
    click.echo(explain(loaded, key) if key else effective_toml(loaded), nl=bool(key))


def _code(code: str) -> str:
    from audiozen_core.diagnostics.codes import explanations

    known = explanations()
    if code not in known:
        raise AudioZenError(f"{code} is not a code of AudioZEN", remedy=f"the codes are {', '.join(known)}")
    return known[code]
