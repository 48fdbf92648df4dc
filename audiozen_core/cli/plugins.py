"""`audiozen plugins`."""

from __future__ import annotations

import json

import click


@click.command(name="plugins")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def command(kind: str | None, as_json: bool) -> None:
    """List the installed components: the names that a TOML can say as `path`.

    KIND shows one kind only: trainer, loss_function, lr_scheduler, optimizer, model, dataset, metric, hooks. Nothing is
    imported: the list is made from the metadata of what is installed.
    """
    from audiozen_core.registry.index import KINDS, installed_index

    if kind is not None and kind not in KINDS:
        raise click.BadParameter(f"`{kind}` is none of {', '.join(KINDS)}", param_hint="KIND")
    entries = [entry for entry in installed_index().entries() if kind in (None, entry.group.split(".", 1)[1])]
    if as_json:
        rows = [
            {name: getattr(entry, name) for name in ("group", "name", "distribution", "version", "value")}
            for entry in entries
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("section", "path", "distribution", "version", "where it lies"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        table.add_row(entry.group.split(".", 1)[1], entry.name, entry.distribution, entry.version, entry.value)
    Console().print(table)
