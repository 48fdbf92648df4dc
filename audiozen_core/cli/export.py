"""`audiozen export`."""

from __future__ import annotations

from pathlib import Path

import click

from audiozen_core.cli.options import TRACEBACK, WITHOUT, GivenPath


@click.command(name="export")
@click.argument("model", metavar="RUN")
@click.option(
    "-o", "--output", metavar="FOLDER", type=GivenPath(path_type=Path), required=True, help="The folder to create."
)
@click.option(
    "--checkpoint", metavar="NAME|PATH",
    help="The checkpoint: best, latest, epoch_0012, or a path. Default: best, or latest if the run has no best.",
)  # fmt: skip
@click.option("--weights", metavar="NAME", help="The weights to use: raw, or weights that a hook offers, such as ema.")
@WITHOUT
@TRACEBACK
def command(model: str, output: Path, checkpoint: str | None, weights: str | None) -> None:
    """Pack a trained network into a self-contained folder.

    \b
    audiozen export exp/baseline -o denoiser
    audiozen enhance denoiser noisy/ -o enhanced/

    FOLDER contains config.toml (only the sections that build the network), model.safetensors, the modules of the recipe
    that the network needs, and README.md, a card in which you fill in licence and purpose. The folder is created only
    if the exported network computes the same output as the network of the run. A plugin can publish such a folder
    under a name: docs/publish_a_component.md.
    """
    from audiozen_core.inference.export import export
    from audiozen_core.logging import configure

    configure(level="warning")
    folder = export(model, output, checkpoint, weights=weights)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    click.echo(f"{folder}: {size / 1000:.0f} kB; complete its README.md before you share it")
