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
    lines = [
        (entry.group.split(".", 1)[1], entry.name, f"{entry.distribution} {entry.version}", entry.value)
        for entry in entries
    ]
    headings = ("SECTION", "PATH", "DISTRIBUTION", "OBJECT")
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    for row in (headings, *lines):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
