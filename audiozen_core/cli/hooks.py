"""`audiozen hooks`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audiozen_core.cli.findings import show_findings
from audiozen_core.cli.options import FILE, OVERRIDES, TRACEBACK, WITHOUT
from audiozen_core.cli.table import echo_table

if TYPE_CHECKING:
    from audiozen_core.hooks.lifecycle import Lifecycle, Plugin


@click.command(name="hooks")
@FILE
@OVERRIDES
@WITHOUT
@click.option("--json", "as_json", is_flag=True, help="Print JSON, including hooks that no plugin implements.")
@TRACEBACK
def command(file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show which plugins implement each hook of an experiment, in which order, and why they are loaded.

    Only the hooks are built, not the model or the data.
    """
    from audiozen_core import logging
    from audiozen_core.experiment.experiment import Experiment

    logging.configure()
    experiment = Experiment.load(file, overrides=overrides, modes=())
    show_findings(experiment.warnings)
    with experiment.scope:
        lifecycle = experiment.lifecycle()
    if as_json:
        click.echo(json.dumps(_as_data(lifecycle), indent=2, ensure_ascii=False))
        return
    echo_table(_rows(lifecycle))
    off = [part.path for part in experiment.config.hooks if not part.enabled]
    if off:
        click.echo(f"switched off: {', '.join(off)}")


def _plugins_by_hook(lifecycle: Lifecycle) -> dict[str, list[Plugin]]:
    return {hook: lifecycle.order(hook) for hook in lifecycle.hook_names}


def _rows(lifecycle: Lifecycle) -> Iterator[tuple[str, ...]]:
    """Yields a row for each implemented hook, followed by a row for each of its plugins, in calling order."""
    for hook, plugins in _plugins_by_hook(lifecycle).items():
        if plugins:
            yield (hook,)
        wrappers = lifecycle.wrappers(hook)
        for plugin in plugins:
            phase = "wraps" if plugin.name in wrappers else plugin.phase
            yield f"  {plugin.name}", phase, plugin.owner, plugin.origin, _order(plugin)


def _order(plugin: Plugin) -> str:
    """Describes the position of a plugin relative to other plugins: `after ema, before checkpoint`."""
    constraints = (("after", plugin.after), ("before", plugin.before))
    return ", ".join(f"{word} {' and '.join(names)}" for word, names in constraints if names)


def _as_data(lifecycle: Lifecycle) -> dict[str, list[dict[str, Any]]]:
    return {
        hook: [
            {
                "name": plugin.name,
                "phase": plugin.phase,
                "before": plugin.before,
                "after": plugin.after,
                "distribution": plugin.distribution,
                "object": f"{type(plugin.instance).__module__}.{type(plugin.instance).__qualname__}",
                "why": plugin.origin,
                "wraps": plugin.name in lifecycle.wrappers(hook),
            }
            for plugin in plugins
        ]
        for hook, plugins in _plugins_by_hook(lifecycle).items()
    }
