"""`audiozen hooks`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from audiozen_core.hooks.lifecycle import Lifecycle, Plugin


@click.command(name="hooks")
@click.argument("file", metavar="EXP.toml", type=click.Path(path_type=Path))
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change a value, as for `audiozen run`.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, hooks without plugins included.")
@click.option("--traceback", is_flag=True, help="Show the whole traceback of an error.")
def command(file: Path, overrides: tuple[str, ...], as_json: bool, traceback: bool) -> None:
    """Tell who answers each hook of an experiment, in which order, and why they take part.

    Only the hooks of the file are built: no network, no data.
    """
    from audiozen_core import logging
    from audiozen_core.experiment.experiment import Experiment

    logging.configure()
    experiment = Experiment.load(file, overrides=overrides, modes=())
    with experiment.scope:
        lifecycle = experiment.lifecycle()
    if as_json:
        click.echo(json.dumps(_as_data(lifecycle), indent=2, ensure_ascii=False))
        return
    for hook, plugins in _answered(lifecycle).items():
        if plugins:
            click.echo(hook)
            _show(plugins, lifecycle.wrappers(hook))
    off = [part.path for part in experiment.config.hooks if not part.enabled]
    if off:
        click.echo(f"switched off: {', '.join(off)}")


def _answered(lifecycle: Lifecycle) -> dict[str, list[Plugin]]:
    from audiozen_core.hooks.lifecycle import HOOK_NAMES

    return {hook: lifecycle.order(hook) for hook in HOOK_NAMES}


def _show(plugins: list[Plugin], wrappers: set[str]) -> None:
    """One line a plugin, in the order in which they run."""
    rows = [
        (plugin.name, "wraps" if plugin.name in wrappers else plugin.phase, plugin.owner, plugin.origin)
        for plugin in plugins
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _as_data(lifecycle: Lifecycle) -> dict[str, list[dict[str, Any]]]:
    return {
        hook: [
            {
                "name": plugin.name,
                "phase": plugin.phase,
                "distribution": plugin.distribution,
                "object": f"{type(plugin.instance).__module__}.{type(plugin.instance).__qualname__}",
                "why": plugin.origin,
                "wraps": plugin.name in lifecycle.wrappers(hook),
            }
            for plugin in plugins
        ]
        for hook, plugins in _answered(lifecycle).items()
    }
