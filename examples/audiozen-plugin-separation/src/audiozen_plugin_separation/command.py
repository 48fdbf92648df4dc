"""The command `audiozen separate`, which separates files with a network that has been trained."""

from __future__ import annotations

import json
from pathlib import Path

import click
from audiozen import AudioZenError


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--checkpoint", default="best", show_default=True, help="`best`, `latest`, or the name of a checkpoint.")
def command(run: Path, files: tuple[Path, ...], checkpoint: str) -> None:
    """Separate the speakers in audio files.

    RUN is the folder of a training with the trainer `separation`. The results are written to its subfolder `predict`,
    as `NAME_1.wav`, `NAME_2.wav`, … for each file.

    \b
    audiozen separate exp/example meeting.wav
    audiozen separate exp/example recordings/*.wav --checkpoint latest
    """
    configs = sorted(run.glob("config__*.toml"))
    if not configs:
        raise AudioZenError(f"`{run}` is not the folder of a run", remedy="name a folder such as `exp/example`")
    # `audiozen --help` does not wait for torch, which this import needs.
    from audiozen import load
    from audiozen.logging import configure

    configure()
    run = run.resolve()
    listed = ", ".join(_toml(str(file.resolve())) for file in files)
    overrides = [
        # The run may have been moved, or started from another working directory.
        f"meta.save_dir={_toml(str(run.parent))}",
        f"meta.id={_toml(run.name)}",
        # As an array, because a table would be merged with one that the file has already.
        f'predict_dataset=[{{path = "audio_folder", args = {{files = [{listed}]}}}}]',
    ]
    load(configs[-1], overrides=overrides, modes=["predict"]).run(ckpt_path=checkpoint)


def _toml(text: str) -> str:
    """Returns a string of TOML, which JSON's strings are too."""
    return json.dumps(text, ensure_ascii=False)
