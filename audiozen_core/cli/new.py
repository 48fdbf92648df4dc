"""`audiozen new`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group(name="new", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Create a new plugin or recipe that works as it is."""


@command.command(name="plugin")
@click.argument("name")
@click.option(
    "--into",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    default=Path(),
    help="The parent folder. Default: the current one.",
)
@click.option("--traceback", is_flag=True, help="Show the full traceback of an error.")
def plugin_command(name: str, into: Path, traceback: bool) -> None:
    """Create a package with a loss, a model and a hook, and with tests, a README and CI.

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
    type=click.Path(path_type=Path),
    help="The folder of the recipes. Default: `recipes` if it exists here, else the current folder.",
)
@click.option(
    "--manifest",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The table of recordings to train on. Default: the table of the small corpus.",
)
@click.option("--traceback", is_flag=True, help="Show the full traceback of an error.")
def recipe_command(name: str, into: Path | None, manifest: Path | None, traceback: bool) -> None:
    """Create a recipe: a TOML file, a model and a README."""
    from audiozen_core.scaffold.scaffold import new_recipe

    if into is None:
        into = Path("recipes") if Path("recipes").is_dir() else Path()
    folder = new_recipe(name, into, manifest)
    click.echo(f"{folder} is ready:\n\n    audiozen run {folder / 'baseline.toml'} -M train test")
