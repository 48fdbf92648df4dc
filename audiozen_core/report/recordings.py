"""Clips of chosen files: the part in which the systems differ most, of all systems and references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiozen_core.comparison.found import FoundSystem
from audiozen_core.errors import AudioZenError
from audiozen_core.pages.clips import Clip, make_clip
from audiozen_core.report.words import joined

if TYPE_CHECKING:
    from audiozen_core.audio.files import AudioFile

_FRAME_SECONDS = 0.1  # the accuracy with which the part of a long file is chosen
GIVEN_FIRST = ("noisy", "mixture", "far_end")
"""The beginnings of the names of what a system is given. A page has it before what the system makes of it."""

_LAST = ("clean", "source", "target")


def recordings_of(name: str, systems: Sequence[FoundSystem]) -> dict[str, str]:
    """Returns the audio files of one ID: what the systems were given, what they made of it, and the target.

    Args:
        name: the ID.
        systems: the systems.

    Returns:
        By what the recording is called in the page, the path, in the order of the page.
    """
    references: dict[str, str] = {}
    for system in systems:
        for kind, paths in system.references.items():
            path = paths.get(name)
            if path and not kind.startswith(("separated", "enhanced")):
                references.setdefault(kind, path)
    own: dict[str, str] = {}
    for system in systems:
        if path := system.scored.audio[0].get(name) if system.scored.audio else None:
            own[system.scored.name] = path
        outputs = {kind: paths[name] for kind, paths in system.references.items() if name in paths}
        for kind, path in sorted(outputs.items()):
            if kind.startswith(("separated_", "enhanced_")):
                own[f"{system.scored.name} {kind.rpartition('_')[2]}"] = path
    before = {kind: path for kind, path in references.items() if kind.startswith(GIVEN_FIRST) and kind not in own}
    after = {kind: path for kind, path in references.items() if kind.startswith(_LAST) and kind not in own}
    return {**before, **own, **after}


def clip_of(
    name: str,
    paths: Mapping[str, str],
    *,
    systems: Sequence[str],
    seconds: float,
    facts: Mapping[str, Sequence[str]],
    notes: Sequence[str],
) -> Clip | str:
    """Makes the clip of one file.

    Args:
        name: the ID of the file.
        paths: what `recordings_of` returned.
        systems: the names of the systems whose differences decide which part of a long file is heard.
        seconds: the greatest length of the clip.
        facts: what is written beside each recording.
        notes: what is written above the clip.

    Returns:
        The clip; or in words why there is none.
    """
    from audiozen_core.audio.files import open_audio

    lost: list[str] = []
    with ExitStack() as stack:
        opened: dict[str, AudioFile] = {}
        for track, path in paths.items():
            try:
                opened[track] = stack.enter_context(open_audio(Path(path)))
            except AudioZenError as error:
                lost.append(f"{track}: {error.message}")
        if not opened:
            return "; ".join(lost) or "its recordings were not kept"
        try:
            return _clip(name, opened, systems, seconds, facts, [*notes, *_told(opened), *lost])
        except (AudioZenError, ValueError) as error:
            return str(error)


def _clip(
    name: str,
    opened: Mapping[str, AudioFile],
    systems: Sequence[str],
    seconds: float,
    facts: Mapping[str, Sequence[str]],
    notes: list[str],
) -> Clip:
    from audiozen_core.audio.resampling import resample

    # A higher rate than that of a recording adds nothing to it, and a lower one would take something away.
    sr = max(audio.info.sr for audio in opened.values())
    longest = max(audio.info.seconds for audio in opened.values())
    begin = 0.0
    if longest > seconds + 0.05:
        begin, why = _most_interesting(opened, systems, seconds)
        notes.append(f"These are the {seconds:g} seconds {why}.")
    signals = {}
    for track, audio in opened.items():
        first = min(audio.info.frames, round(begin * audio.info.sr))
        wanted = math.ceil(seconds * audio.info.sr) if math.isfinite(seconds) else audio.info.frames
        count = min(audio.info.frames - first, wanted)
        wave = audio.read(first, count, channel=0) if count else None
        signals[track] = resample(wave, audio.info.sr, sr).numpy() if wave is not None else np.zeros(1, np.float32)
    clip = make_clip(name, signals, sr, seconds=seconds, centre=0.0, facts=facts, notes=notes)
    return replace(clip, begin=begin, of=longest)


def _told(opened: Mapping[str, AudioFile]) -> list[str]:
    """Returns what is remarkable about the forms of the recordings."""
    notes = []
    rates = {track: audio.info.sr for track, audio in opened.items()}
    if len(set(rates.values())) > 1:
        notes.append(f"The sample rates differ: {joined([f'{track} {sr} Hz' for track, sr in rates.items()])}.")
    several = [track for track, audio in opened.items() if audio.info.channels > 1]
    if several:
        notes.append(f"Only the first channel of {joined(several)} is here.")
    lengths = {track: audio.info.seconds for track, audio in opened.items()}
    if max(lengths.values()) - min(lengths.values()) > 0.01:
        notes.append(f"The lengths differ: {joined([f'{track} {length:.2f} s' for track, length in lengths.items()])}.")
    return notes


def _most_interesting(opened: Mapping[str, AudioFile], systems: Sequence[str], seconds: float) -> tuple[float, str]:
    """Returns where the part begins that is heard, in seconds, and why it was chosen."""
    own = [track for track in opened if track in systems]
    target = next((track for track in opened if track.startswith(_LAST)), None)
    if len(own) > 1:
        first, others, why = own[0], own[1:], "in which the systems differ most"
    elif own and target:
        first, others, why = target, own, f"in which {own[0]} differs most from {target}"
    else:
        first, others, why = (own or list(opened))[0], [], "with the most energy"
    if len({opened[track].info.sr for track in (first, *others)}) > 1:
        others, why = [], "with the most energy"
    energy = _energy({track: opened[track] for track in (first, *others)}, first)
    width = max(1, round(seconds / _FRAME_SECONDS))
    if len(energy) <= width:
        return 0.0, why
    sums = np.convolve(energy, np.ones(width), "valid")
    return float(np.argmax(sums)) * _FRAME_SECONDS, why


def _energy(opened: Mapping[str, AudioFile], first: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Returns the energy of each frame: of the differences from the first recording, or of it if it is the only one."""
    count = round(_FRAME_SECONDS * opened[first].info.sr)
    streams = {track: audio.blocks(count) for track, audio in opened.items()}
    found = []
    for block in streams.pop(first):
        base = block[0].numpy().astype(np.float64)
        energy = 0.0 if streams else float(np.sum(base**2))
        for stream in streams.values():
            other = next(stream, None)
            wave = np.zeros_like(base)
            if other is not None:
                wave[: other.shape[-1]] = other[0].numpy()[: base.size]
            energy += float(np.sum((wave - base) ** 2))
        found.append(energy)
    return np.asarray(found)
