"""`audiozen listen`: creates the page of a blind listening test."""

from __future__ import annotations

from pathlib import Path

import click

from audiozen_core.cli.options import TRACEBACK, WITHOUT, GivenPath, split_names
from audiozen_core.cli.scored_options import OF_CHECKPOINT

_FOLDER = GivenPath(path_type=Path)


@click.command(name="listen")
@click.argument("systems", metavar="SYSTEM…", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="PAGE.html",
    type=_FOLDER,
    required=True,
    help="The page to write. Its key is PAGE.key.json.",
)
@click.option(
    "--method",
    type=click.Choice(("mushra", "p835")),
    default="mushra",
    show_default=True,
    help="`mushra` (ITU-R BS.1534): all systems side by side, against a reference. `p835` (ITU-T P.835): one recording "
    "at a time, rated for speech signal, background and overall.",
)
@click.option(
    "--clean", metavar="FOLDER", type=_FOLDER, help="The clean files. Default: those that the systems were tested on."
)
@click.option(
    "--noisy", metavar="FOLDER", type=_FOLDER, help="The noisy files. Default: those that the systems were tested on."
)
@click.option(
    "--anchor",
    "anchors",
    metavar="NAME,…",
    multiple=True,
    callback=split_names,
    help="`noisy`, `lowpass3500`, `lowpass7000` (the reference below 3.5 or 7 kHz) or `none`. Default: `noisy`, plus "
    "`lowpass3500` for mushra at rates above 8 kHz.",
)
@click.option(
    "--files",
    metavar="N",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many files to rate. They are drawn at random, because choosing files by their scores would favour a "
    "system.",
)
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="The seed for drawing the files.")
@click.option(
    "--seconds",
    metavar="S",
    type=click.FloatRange(min=0.1, max=60),
    default=10,
    show_default=True,
    help="The maximum length of an excerpt, in seconds. Of a longer file, the loudest part is used. BS.1534 advises at "
    "most 12 s.",
)
@click.option(
    "--same-loudness",
    is_flag=True,
    help="Scale all recordings of a file to the same root mean square. Default: the levels are not changed.",
)
@OF_CHECKPOINT
@click.option(
    "--title", metavar="TEXT", default="Listening test", show_default=True, help="The title that listeners see."
)
@WITHOUT
@TRACEBACK
def command(
    systems: tuple[str, ...],
    output: Path,
    method: str,
    clean: Path | None,
    noisy: Path | None,
    anchors: list[str],
    files: int,
    seed: int,
    seconds: float,
    same_loudness: bool,
    checkpoint: str | None,
    title: str,
) -> None:
    """Create a page for a blind listening test: listeners rate systems without knowing which one they hear.

    \b
    audiozen listen exp/a exp/b -o test.html                   MUSHRA of the tests of two runs
    audiozen listen exp/a exp/b -o test.html --method p835     signal, background, overall
    audiozen listen a=out/a b=out/b --clean CLEAN --noisy NOISY -o test.html     folders of audio
    audiozen compare --ratings ratings_*.json --key test.key.json                what the ratings say

    A SYSTEM is a run folder (its latest finished test is used), the result folder of a test, or a folder of audio
    files. NAME=SYSTEM names a system in the results. Listeners never see this name.

    Send the page to listeners. It is a single file that needs neither a network nor a server. At the end, listeners
    download a file with their ratings and send it back to you. The key file says which system each recording comes
    from: keep it, and do not send it to listeners.
    """
    from audiozen_core.diagnostics.printable import printable
    from audiozen_core.listening.listen import listen

    made = listen(
        systems,
        output,
        method=method,  # type: ignore[arg-type]
        clean=clean,
        noisy=noisy,
        anchors=anchors or None,
        files=files,
        seconds=seconds,
        seed=seed,
        same_loudness=same_loudness,
        checkpoint=checkpoint,
        title=title,
    )
    for note in made.notes:
        click.echo(printable(note if note.startswith("warning: ") else f"note: {note}"), err=True)
    loudness = "all as loud as the reference" if same_loudness else "levels unchanged (see --same-loudness)"
    click.echo(printable(f"rated: {', '.join(made.systems)}; {loudness}"))
    click.echo(printable(f"files: {', '.join(made.files)}"))
    count = len(made.files) * (1 if method == "mushra" else len(made.systems))
    click.echo(f"length: {count} trial{'s' * (count > 1)} after practice, about {made.minutes} minutes per listener")
    click.echo(printable(f"page: {made.page} ({made.size / 1e6:.1f} MB), for listeners"))
    click.echo(printable(f"key: {made.key}, for you only"))
    click.echo(printable(f"next: audiozen compare --ratings ratings_*.json --key {made.key}"))
