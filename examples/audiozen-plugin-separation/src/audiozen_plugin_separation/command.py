"""The command `audiozen separate`, which separates files with a trained network."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--checkpoint", default="best", show_default=True, help="`best`, `latest`, or the name of a checkpoint.")
def command(run: Path, files: tuple[Path, ...], checkpoint: str) -> None:
    """Separate the speakers in audio files.

    RUN is the folder of a training run with the trainer `source_separation`. The results are written to its subfolder
    `predict`, as `NAME_1.wav`, `NAME_2.wav`, … for each file, and listed.

    \b
    audiozen separate exp/example meeting.wav
    audiozen separate exp/example recordings/*.wav --checkpoint latest
    """
    # These imports load torch, so they are here: `audiozen --help` must stay fast.
    from audiozen import load_run
    from audiozen.audio import audio_info
    from audiozen.cli import echo_table
    from audiozen.dataset import AudioFolder, BatchLoader
    from audiozen.logging import configure

    configure()
    trainer = load_run(run, checkpoint).trainer
    trainer.predict([BatchLoader(AudioFolder(files=files, sr=trainer.sr))])
    written = sorted(trainer.results_folder.rglob("*.wav")) if trainer.results_folder else []
    rows = [(str(path.relative_to(trainer.folder)), f"{audio_info(path).seconds:.2f}") for path in written]
    echo_table(rows, headings=("written", "seconds"), right=["seconds"])
