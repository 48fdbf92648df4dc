"""`audiozen new`."""

from __future__ import annotations

from pathlib import Path

import click

from audiozen_core.cli.options import TRACEBACK, GivenPath


@click.group(name="new")
def command() -> None:
    """Create a new plugin or recipe that works right away."""


@command.command(name="plugin")
@click.argument("name")
@click.option(
    "--into",
    metavar="FOLDER",
    type=GivenPath(path_type=Path),
    default=Path(),
    help="The parent folder. Default: the current folder.",
)
@TRACEBACK
def plugin_command(name: str, into: Path) -> None:
    """Create a package with a loss, a model, a hook, tests, a README and CI.

    NAME is the short name: `acme` creates the distribution `audiozen-plugin-acme`.
    """
    from audiozen_core.scaffold.scaffold import new_plugin

    folder = new_plugin(name, into)
    click.echo(f"{folder} is ready:\n\n    cd {folder}\n    pip install -e '.[dev]'\n    python -m pytest")


@command.command(name="recipe")
@click.argument("name", metavar="DATASET/MODEL")
@click.option(
    "--into",
    metavar="FOLDER",
    type=GivenPath(path_type=Path),
    help="The folder of the recipes. Default: `recipes` if it exists here, else the current folder.",
)
@click.option(
    "--manifest",
    metavar="FILE",
    type=GivenPath(path_type=Path),
    help="The manifest: a CSV file that lists the recordings to train on. Default: the manifest of the small corpus.",
)
@TRACEBACK
def recipe_command(name: str, into: Path | None, manifest: Path | None) -> None:
    """Create a recipe: a TOML file, a model and a README."""
    from audiozen_core.scaffold.scaffold import new_recipe

    if into is None:
        into = Path("recipes") if Path("recipes").is_dir() else Path()
    folder = new_recipe(name, into, manifest)
    click.echo(f"{folder} is ready:\n\n    audiozen run {folder / 'baseline.toml'} -M train test")
