"""Makes clips of chosen files. A clip has the recordings of all systems, in the part where the systems differ most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiozen_core.comparison.load_systems import LoadedSystem
from audiozen_core.errors import AudioZenError
from audiozen_core.pages.clips import Clip, make_clip
from audiozen_core.report.words import join_words

if TYPE_CHECKING:
    from audiozen_core.audio.files import AudioFile

_FRAME_SECONDS = 0.1  # the time resolution for choosing a part of a long file
GIVEN_FIRST = ("noisy", "mixture", "far_end")
"""The prefixes of the names of input signals. A page shows the inputs of a system before its outputs."""

_LAST = ("clean", "source", "target")


def recordings_of(name: str, systems: Sequence[LoadedSystem]) -> dict[str, str]:
    """Returns the audio files with a given ID: the inputs and the outputs of the systems, and the target.

    Args:
        name: the ID of the file.
        systems: the systems.

    Returns:
        The path of each recording by its name in the page, in the order of the page.
    """
    references: dict[str, str] = {}
    for system in systems:
        for kind, paths in system.references.items():
            path = paths.get(name)
            if path and not kind.startswith(("separated", "enhanced")):
                references.setdefault(kind, path)
    outputs: dict[str, str] = {}
    for system in systems:
        if path := system.scored.audio[0].get(name) if system.scored.audio else None:
            outputs[system.scored.name] = path
        signals = {kind: paths[name] for kind, paths in system.references.items() if name in paths}
        for kind, path in sorted(signals.items()):
            if kind.startswith(("separated_", "enhanced_")):
                outputs[f"{system.scored.name} {kind.rpartition('_')[2]}"] = path
    before = {kind: path for kind, path in references.items() if kind.startswith(GIVEN_FIRST) and kind not in outputs}
    after = {kind: path for kind, path in references.items() if kind.startswith(_LAST) and kind not in outputs}
    return {**before, **outputs, **after}


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
        paths: the recordings, as returned by `recordings_of`.
        systems: the names of the systems whose differences determine which part of a long file is used.
        seconds: the maximum duration of the clip in seconds.
        facts: texts next to each recording, by its name.
        notes: texts above the clip.

    Returns:
        The clip, or a text with the reason why there is no clip.
    """
    from audiozen_core.audio.files import open_audio

    unreadable: list[str] = []
    with ExitStack() as stack:
        opened: dict[str, AudioFile] = {}
        for track, path in paths.items():
            try:
                opened[track] = stack.enter_context(open_audio(Path(path)))
            except AudioZenError as error:
                unreadable.append(f"{track}: {error.message}")
        if not opened:
            return "; ".join(unreadable) or "the recordings were not saved"
        try:
            return _clip(name, opened, systems, seconds, facts, [*notes, *_format_notes(opened), *unreadable])
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

    # The clip uses the highest rate. Resampling to a lower rate would remove high frequencies from some recordings.
    sr = max(audio.info.sr for audio in opened.values())
    longest = max(audio.info.seconds for audio in opened.values())
    begin = 0.0
    if longest > seconds + 0.05:
        begin, description = _most_interesting(opened, systems, seconds)
        notes.append(f"These are the {seconds:g} seconds {description}.")
    signals = {}
    for track, audio in opened.items():
        first = min(audio.info.frames, round(begin * audio.info.sr))
        most = math.ceil(seconds * audio.info.sr) if math.isfinite(seconds) else audio.info.frames
        count = min(audio.info.frames - first, most)
        wave = audio.read(first, count, channel=0) if count else None
        signals[track] = resample(wave, audio.info.sr, sr).numpy() if wave is not None else np.zeros(1, np.float32)
    clip = make_clip(name, signals, sr, seconds=seconds, centre=0.0, facts=facts, notes=notes)
    return replace(clip, begin=begin, file_seconds=longest)


def _format_notes(opened: Mapping[str, AudioFile]) -> list[str]:
    """Returns notes on recordings that differ in sample rate or length, or have several channels."""
    notes = []
    rates = {track: audio.info.sr for track, audio in opened.items()}
    if len(set(rates.values())) > 1:
        notes.append(f"The sample rates differ: {join_words([f'{track} {sr} Hz' for track, sr in rates.items()])}.")
    several = [track for track, audio in opened.items() if audio.info.channels > 1]
    if several:
        notes.append(f"Only the first channel of {join_words(several)} is played.")
    lengths = {track: audio.info.seconds for track, audio in opened.items()}
    if max(lengths.values()) - min(lengths.values()) > 0.01:
        notes.append(
            f"The lengths differ: {join_words([f'{track} {length:.2f} s' for track, length in lengths.items()])}."
        )
    return notes


def _most_interesting(opened: Mapping[str, AudioFile], systems: Sequence[str], seconds: float) -> tuple[float, str]:
    """Chooses a part of a long file. Returns its start in seconds, and a description of how it was chosen."""
    outputs = [track for track in opened if track in systems]
    target = next((track for track in opened if track.startswith(_LAST)), None)
    if len(outputs) > 1:
        first, others, description = outputs[0], outputs[1:], "in which the systems differ most"
    elif outputs and target:
        first, others, description = target, outputs, f"in which {outputs[0]} differs most from {target}"
    else:
        first, others, description = (outputs or list(opened))[0], [], "with the most energy"
    if len({opened[track].info.sr for track in (first, *others)}) > 1:
        others, description = [], "with the most energy"
    energy = _energy({track: opened[track] for track in (first, *others)}, first)
    width = max(1, round(seconds / _FRAME_SECONDS))
    if len(energy) <= width:
        return 0.0, description
    sums = np.convolve(energy, np.ones(width), "valid")
    return float(np.argmax(sums)) * _FRAME_SECONDS, description


def _energy(opened: Mapping[str, AudioFile], first: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Returns an energy for each frame, [frames].

    With several recordings, this is the energy of their differences from the first recording. With a single recording,
    it is the energy of the recording.
    """
    count = round(_FRAME_SECONDS * opened[first].info.sr)
    streams = {track: audio.blocks(count) for track, audio in opened.items()}
    energies = []
    for block in streams.pop(first):
        base = block[0].numpy().astype(np.float64)
        energy = 0.0 if streams else float(np.sum(base**2))
        for stream in streams.values():
            other = next(stream, None)
            wave = np.zeros_like(base)
            if other is not None:
                wave[: other.shape[-1]] = other[0].numpy()[: base.size]
            energy += float(np.sum((wave - base) ** 2))
        energies.append(energy)
    return np.asarray(energies)
