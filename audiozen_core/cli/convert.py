"""`audiozen convert`."""

from __future__ import annotations

from pathlib import Path

import click

from audiozen_core.cli.options import TRACEBACK, GivenPath


@click.command(name="convert")
@click.argument("source", metavar="SOURCE", type=GivenPath(path_type=Path))
@click.argument("target", metavar="TARGET", type=GivenPath(path_type=Path))
@click.option("--key", default="", help="The key of the weights in the file, such as `model`, if the file has several.")
@TRACEBACK
def command(source: Path, target: Path, key: str) -> None:
    """Convert the weights in a torch file (.tar, .pt, .pth, .ckpt) to a .safetensors file.

    \b
    audiozen convert weights.tar weights.safetensors

    A torch file can contain code. It is therefore read in a separate process, which loads only tensors and plain values
    and refuses a file with anything else. Training reads only the .safetensors file.
    """
    from audiozen_core.checkpoint.torch_file import convert_torch_file

    done = convert_torch_file(source, target, key)
    where = f" from `{done.key}`" if done.key else ""
    click.echo(f"{target}: {done.tensors} tensors with {done.weights:,} weights{where}")
    if done.left_out:
        click.echo(f"left out, because not tensors: {', '.join(done.left_out)}")
