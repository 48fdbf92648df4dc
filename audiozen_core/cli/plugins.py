"""`audiozen plugins`. The subcommand `list` only reads metadata, but `show` and `doctor` import components."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from audiozen_core.cli.options import JSON, TRACEBACK, WITHOUT, ListByDefault
from audiozen_core.cli.table import echo_table

if TYPE_CHECKING:
    from audiozen_core.inspection.component_info import ComponentInfo
    from audiozen_core.registry.entry import Entry


@click.group(cls=ListByDefault, name="plugins")
def command() -> None:
    """List the installed components, describe a component, or diagnose problems.

    \b
    audiozen plugins            list all components: the names that a TOML file can use as `path`
    audiozen plugins model      list the components of one kind
    audiozen plugins show NAME  describe a component: its arguments, and TOML to paste
    audiozen plugins doctor     find broken components, and how to fix them
    """


@command.command(name="list")
@click.argument("kind", required=False)
@WITHOUT
@JSON
def list_command(kind: str | None, as_json: bool) -> None:
    """List the installed components: the names that a TOML file can use as `path`.

    KIND limits the list to one kind: trainer, loss_function, lr_scheduler, optimizer, model, dataset, metric,
    pretrained, hooks, commands, section or hookspecs. Nothing is imported: the list comes from the metadata of the
    installed packages.
    """
    from audiozen_core.kinds import GROUPS
    from audiozen_core.registry.index import installed_index

    if kind is not None and kind not in GROUPS:
        raise click.BadParameter(f"`{kind}` is not one of {', '.join(GROUPS)}", param_hint="KIND")
    index = installed_index()
    clashing = {entry: entries[0] for entries in index.clashes() for entry in entries}
    rows = [_row(entry, clashing.get(entry)) for entry in index.entries(kind)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    echo_table(_lines(rows), headings=("  PATH", "DISTRIBUTION", "ORIGIN", "STATUS", "OBJECT"))
    if index.off:
        click.echo(f"\nswitched off: {', '.join(sorted({entry.origin for entry in index.off}))}")
    if any(row["status"] != "ok" for row in rows) or index.problems:
        click.echo("\nRun `audiozen plugins doctor` to see what is wrong.")


def _row(entry: Entry, first: Entry | None) -> dict[str, str]:
    """Returns the table row of a component, from metadata alone. Only `doctor` checks whether the component can be
    imported.

    `first` is the first component with the same name if several components have this name, otherwise None.
    """
    from audiozen_core import __version__
    from audiozen_core.kinds import GROUPS
    from audiozen_core.registry.compatibility import admits
    from audiozen_core.registry.entry import FIRST_PARTY

    status = "ok"
    if entry.kind not in GROUPS:
        status = "unknown group"
    elif not entry.reachable:
        status = "unusable name"
    elif first and first.distribution != FIRST_PARTY:
        status = "clash"
    elif first and first != entry:
        status = f"write {entry.spelling}"
    elif not admits(entry.requires, __version__):
        status = f"for audiozen{entry.requires}"
    return {
        "group": entry.group,
        "name": entry.name,
        "distribution": entry.distribution,
        "version": entry.version,
        "value": entry.value,
        "origin": "first party" if entry.distribution == FIRST_PARTY else "third party",
        "status": status,
    }


def _lines(rows: Sequence[dict[str, str]]) -> Iterator[tuple[str, ...]]:
    """Yields the lines of the table: each kind on its own line, followed by the components of that kind."""
    for group, components in itertools.groupby(rows, key=lambda row: row["group"]):
        yield (group.removeprefix("audiozen."),)
        for row in components:
            distribution = f"{row['distribution']} {row['version']}"
            yield f"  {row['name']}", distribution, row["origin"], row["status"], row["value"]


@command.command(name="show")
@click.argument("name")
@click.option("--kind", help="The kind of the component, if several kinds have a component with that name.")
@WITHOUT
@JSON
@TRACEBACK
def show_command(name: str, kind: str | None, as_json: bool) -> None:
    """Import a component and describe it: arguments, docstring, hooks, and TOML ready to paste.

    If the component is a pretrained network, it is loaded and its card is shown.

    NAME is the `path` of the component in a TOML file: a name, `distribution:name`, or a dotted path.
    """
    import dataclasses

    from audiozen_core.inspection.component_info import component_info
    from audiozen_core.kinds import GROUPS

    if kind is not None and kind not in GROUPS:
        raise click.BadParameter(f"`{kind}` is not one of {', '.join(GROUPS)}", param_hint="--kind")
    info = component_info(name, kind)
    if info.kind == "pretrained" and not as_json:
        _show_pretrained(info)
        return
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(info), "signature": info.signature}, indent=2, ensure_ascii=False))
        return
    click.echo("\n\n".join(_paragraphs(info)))


def _show_pretrained(info: ComponentInfo) -> None:
    """Loads a pretrained network, and prints its properties and its card."""
    from audiozen_core.inference.load import CARD, load
    from audiozen_core.logging import configure

    configure(level="warning")
    model = load(info.name, device="cpu")
    folder = model.source.path.parent
    weights = sum(weight.numel() for weight in model.network.parameters())
    head = (
        f"{info.name}  pretrained network",
        f"  from     {info.origin}",
        f"  folder   {folder}",
        f"  network  {type(model.network).__name__}, {weights:,} weights, {model.sr} Hz",
    )
    card = folder / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else info.doc
    click.echo("\n\n".join(["\n".join(head), text.strip(), f"audiozen enhance {info.name} IN -o OUT"]))


def _paragraphs(info: ComponentInfo) -> list[str]:
    origin = (
        f"{info.origin}, {'first party' if info.first_party else 'third party'}" if info.origin else "not installed"
    )
    head = [f"{info.name}  {info.kind}".rstrip(), f"  from    {origin}", f"  object  {info.import_path}"]
    if info.hooks:
        head.append(f"  hooks   {', '.join(info.hooks)}")
        head.append(f"  phase   {info.phase or 'monitor'}")
    if info.size:
        head.append(f"  size    {info.size}")
        if len(info.size.modules) > 1:
            named = ", ".join(f"{name} ({count:,})" for name, count in info.size.modules.items())
            head.append(f"  modules {named}")
    if info.printed:
        head.append(f"  prints  {info.printed.strip().splitlines()[0]}")
    paragraphs = ["\n".join(head), info.signature]
    if injected := [argument.name for argument in info.arguments if argument.injected]:
        paragraphs.append(f"{', '.join(injected)}: passed by AudioZEN")
    return [*paragraphs, *filter(None, (info.doc, info.snippet))]


@command.command(name="doctor")
@click.argument("distributions", nargs=-1, metavar="[DISTRIBUTION]…")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True,
    help="The maximum time for importing one component, in seconds.",
)  # fmt: skip
@WITHOUT
@JSON
def doctor_command(distributions: tuple[str, ...], timeout: float, as_json: bool) -> None:
    """Import every component in a separate process, and report problems and how to fix them.

    It finds components that fail, hang or exit during the import, names that clash or can't be written in a TOML file,
    groups and hooks that AudioZEN does not know, and plugins made for another version of AudioZEN. The exit code is 1
    if a problem is found.
    """
    from audiozen_core.cli.findings import show_findings
    from audiozen_core.cli.main import COMMANDS
    from audiozen_core.diagnostics.diagnostic import render
    from audiozen_core.inspection.health import (
        import_findings,
        metadata_findings,
        select_distributions,
        stray_group_findings,
    )
    from audiozen_core.inspection.stray_groups import stray_groups
    from audiozen_core.registry.index import installed_index
    from audiozen_core.registry.installed import normalised
    from audiozen_core.registry.scope import installed_path

    index, strays = installed_index(), list(stray_groups(installed_path()))
    if distributions:
        wanted = [normalised(name) for name in distributions]
        known = {*index.problems, *(found.distribution for found in (*index, *strays))}
        if unknown := [name for name in wanted if name not in known]:
            raise click.BadParameter(f"`{unknown[0]}` has no components", param_hint="DISTRIBUTION")
        index = select_distributions(index, wanted)
        strays = [stray for stray in strays if stray.distribution in wanted]
    findings = [
        *metadata_findings(index, COMMANDS),
        *stray_group_findings(strays),
        *import_findings(index, timeout),
    ]
    wrong = sum(finding.severity == "error" for finding in findings)
    if as_json:
        show_findings(findings, "json")
    else:
        # The findings are the result of this command, so they are printed to standard output.
        for finding in findings:
            click.echo(render(finding) + "\n")
        what = f"{wrong} problem{'' if wrong == 1 else 's'}" if wrong else "no problems"
        click.echo(f"{len(index)} components, {what}")
    sys.exit(1 if wrong else 0)
