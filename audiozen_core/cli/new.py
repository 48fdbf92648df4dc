"""`audiozen new`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group(name="new", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Write a new plugin or recipe, which works as it stands."""


@command.command(name="plugin")
@click.argument("name")
@click.option(
    "--into", metavar="FOLDER", type=click.Path(path_type=Path), default=Path(), help="Where; by default here."
)
@click.option("--traceback", is_flag=True, help="Show the whole traceback of an error.")
def plugin_command(name: str, into: Path, traceback: bool) -> None:
    """Write a package that brings a loss, a model and a hook, with tests, README and CI.

    NAME is short: `acme` makes the distribution `audiozen-plugin-acme`.
    """
    from audiozen_core.scaffold.scaffold import new_plugin

    folder = new_plugin(name, into)
    click.echo(f"{folder} is ready:\n\n    cd {folder}\n    pip install -e '.[dev]'\n    python -m pytest")


@command.command(name="recipe")
@click.argument("name", metavar="DATASET/MODEL")
@click.option(
    "--into",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="The folder of the recipes; by default `recipes` if there is one here, else here.",
)
@click.option(
    "--manifest",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The table of recordings to train on; by default that of the small corpus.",
)
@click.option("--traceback", is_flag=True, help="Show the whole traceback of an error.")
def recipe_command(name: str, into: Path | None, manifest: Path | None, traceback: bool) -> None:
    """Write a recipe: a TOML file, a model of its own, and a README."""
    from audiozen_core.scaffold.scaffold import new_recipe

    if into is None:
        into = Path("recipes") if Path("recipes").is_dir() else Path()
    folder = new_recipe(name, into, manifest)
    click.echo(f"{folder} is ready:\n\n    audiozen run {folder / 'baseline.toml'} -M train test")
