"""Speech and noise, mixed on the fly at random or given signal-to-noise ratios."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from audiozen_core.errors import DataError
from audiozen_plugins.dataset.collate import pad_collate
from audiozen_plugins.dataset.mixing import Wave, loop, mix, rms
from audiozen_plugins.dataset.pairs import clip_length
from audiozen_plugins.dataset.recordings import Pool, Recording, from_folder, from_manifest

_GAP_SECONDS = (0.05, 0.4)  # of silence between joined utterances
_FADE_SECONDS = 0.02  # over which a short noise is faded into its own repetition
_PAUSE = 1e-3  # RMS, -60 dBFS: a stretch of speech below it is a pause, which noise cannot be measured against
_DRAWS = 100  # before a stretch that is all silence counts as an error


@dataclass(frozen=True, slots=True)
class Draw:
    """What chance decides about one item, apart from the waves themselves.

    Attributes:
        speech: the stretches that follow each other: index of the utterance, first sample, silence after it in samples.
        length: of the item, in samples.
        noise: the index of the noise.
        noise_start: its first sample.
        snr: dB.
        level: the RMS of the mixture, in dBFS.
    """

    speech: tuple[tuple[int, int, int], ...]
    length: int
    noise: int
    noise_start: int
    snr: float
    level: float


class NoisySpeechMix(Dataset[dict[str, Any]]):
    """Noisy speech, made anew for each item: a random stretch of speech, a random noise, a random SNR and level.

    The recordings come from a manifest or from two folders. Two ways of use:

    - Training: `clip_seconds` and `snr_range`. Each item is drawn from the global random state (`random`), which the
      loader seeds for each item. Utterances shorter than the clip are followed by others of the same voice.
    - Validation and test: `snrs`, a fixed grid, or `fixed = true`. Item number i is the same in each epoch and each run
      with the same `seed`. With a grid, each utterance meets one noise, at every SNR of the grid, so that scores at
      different SNRs can be compared; the noises take turns. Without `clip_seconds` the utterances are whole.

    The SNR is that of the whole clip: power of the speech over power of the noise, pauses included. Nothing is clipped.
    A noise shorter than the clip is repeated, its end faded into its beginning.

    Args:
        manifest: a CSV file with the columns `file` (relative to the manifest), `role` (`speech` or `noise`), `voice`,
            `kind` (of noise) and `split`.
        split: which rows of the manifest to take, such as `train`; all if left out.
        speech_dir: instead of a manifest: a folder of speech; a folder in it counts as a voice.
        noise_dir: a folder of noise, with `speech_dir`; a folder in it counts as a kind of noise.
        sr: the sample rate that all files must have, in hertz.
        clip_seconds: the length of an item; whole utterances if left out.
        snr_range: lowest and highest SNR, in dB; drawn uniformly. [-5, 20] if neither it nor `snrs` is given.
        snrs: a grid of SNRs in dB instead of a range.
        level_range: lowest and highest RMS level of the mixture, in dBFS; drawn uniformly, in dB.
        items_per_epoch: how many items there are; if left out, one for each utterance (and SNR of the grid). With a
            fixed set, fewer than that takes utterances which are spread evenly over all.
        fixed: whether item number i is always the same. Grids are fixed, ranges are not, unless it is said here.
        seed: what fixed items are drawn from.
        cache_mb: recordings are held in memory if they take at most this much (megabytes, at two bytes a sample) for
            speech and noise each; otherwise each item is read from its files.

    Raises:
        DataError: a folder, manifest or file that is missing, empty or cannot be used; arguments that contradict each
            other.

    Items are dicts: `id` (voice and utterance, kind and noise, SNR), `noisy` and `clean` (float32 [time]), `snr` (dB)
    and `sr` (hertz).
    """

    collate_fn = staticmethod(pad_collate)

    def __init__(
        self,
        manifest: str | Path | None = None,
        split: str | None = None,
        speech_dir: str | Path | None = None,
        noise_dir: str | Path | None = None,
        sr: int = 16000,
        clip_seconds: float | None = None,
        snr_range: Sequence[float] | None = None,
        snrs: Sequence[float] | None = None,
        level_range: Sequence[float] = (-35.0, -15.0),
        items_per_epoch: int | None = None,
        fixed: bool | None = None,
        seed: int = 0,
        cache_mb: float = 1024.0,
    ) -> None:
        if snr_range is not None and snrs is not None:
            raise DataError("both `snr_range` and `snrs` are given", remedy="give a range or a grid")
        if snrs is not None and not (snrs and all(map(math.isfinite, snrs))):
            raise DataError(f"`snrs` is {list(snrs)}", remedy="give at least one SNR in dB, such as [0, 5, 10]")
        self.sr = sr
        self.snrs = None if snrs is None else [float(snr) for snr in snrs]
        self.snr_range = _range("snr_range", (-5.0, 20.0) if snr_range is None else snr_range)
        self.level_range = _range("level_range", level_range)
        self.fixed = self.snrs is not None if fixed is None else fixed
        self.seed = seed
        self.clip = clip_length(clip_seconds, sr)
        if items_per_epoch is not None and items_per_epoch < 1:
            raise DataError(f"`items_per_epoch` is {items_per_epoch}", remedy="give 1 or more, or leave it out")
        speech, noise = _find(manifest, split, speech_dir, noise_dir)
        self.speech = Pool(speech, sr=sr, cache_mb=cache_mb)
        self.noise = Pool(noise, sr=sr, cache_mb=cache_mb)
        self._by_voice: dict[str, list[int]] = {}
        for index, recording in enumerate(self.speech.recordings):
            self._by_voice.setdefault(recording.voice, []).append(index)
        self._noise_turns = random.Random(seed).sample(range(len(self.noise)), len(self.noise))
        self._num_grid = len(self.snrs or [0.0])
        self._num_items = items_per_epoch or len(self.speech) * self._num_grid

    def __len__(self) -> int:
        return self._num_items

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        for attempt in range(_DRAWS):
            draw = self.draw(index, attempt)
            speech, noise = self._speech(draw), self._noise(draw)
            if rms(speech) > _PAUSE and noise.any():
                break
        else:
            names = f"`{self.speech.recordings[draw.speech[0][0]].path}`, `{self.noise.recordings[draw.noise].path}`"
            raise DataError(
                f"{_DRAWS} stretches in a row were silent; the last were of {names}", remedy="leave out silence"
            )
        noisy, clean = mix(speech, noise, snr=draw.snr, level=draw.level)
        return {
            "id": self._id(draw),
            "noisy": torch.from_numpy(noisy),
            "clean": torch.from_numpy(clean),
            "snr": draw.snr,
            "sr": self.sr,
        }

    def draw(self, index: int, attempt: int = 0) -> Draw:
        """Decides about item number `index`: fixed items from the seed, others from the global random state."""
        utterance, place = divmod(index, self._num_grid)
        if not self.fixed:
            rng = random.Random(random.getrandbits(64))
            utterance, noise = rng.randrange(len(self.speech)), rng.randrange(len(self.noise))
        else:
            # The same for each SNR of the grid.
            rng = random.Random(f"{self.seed} {utterance} {attempt}")
            turn = utterance + utterance // len(self.speech) + attempt
            utterance, noise = self._spread(utterance), self._noise_turns[turn % len(self.noise)]
        level = rng.uniform(*self.level_range)
        speech, length = self._join(utterance, rng)
        room = self.noise.lengths[noise] - length
        noise_start = rng.randrange(room + 1 if room >= 0 else self.noise.lengths[noise])
        if self.snrs is None:
            snr = rng.uniform(*self.snr_range)
        else:
            snr = self.snrs[place] if self.fixed else rng.choice(self.snrs)
        return Draw(speech, length, noise, noise_start, snr, level)

    def _spread(self, utterance: int) -> int:
        """Which utterance a fixed set takes: all in turn, or fewer that are spread evenly."""
        count = -(-self._num_items // self._num_grid)
        if count >= len(self.speech):
            return utterance % len(self.speech)
        return utterance * len(self.speech) // count

    def _join(self, first: int, rng: random.Random) -> tuple[tuple[tuple[int, int, int], ...], int]:
        """The stretches of speech that fill a clip, and its length in samples."""
        if self.clip is None:
            return ((first, 0, 0),), self.speech.lengths[first]
        room = self.speech.lengths[first] - self.clip
        if room >= 0:
            return ((first, rng.randrange(room + 1), 0),), self.clip
        others = self._by_voice[self.speech.recordings[first].voice]
        stretches = []
        filled, utterance = 0, first
        while filled < self.clip:
            gap = round(rng.uniform(*_GAP_SECONDS) * self.sr)
            stretches.append((utterance, 0, gap))
            filled += self.speech.lengths[utterance] + gap
            utterance = rng.choice(others)
        return tuple(stretches), self.clip

    def _speech(self, draw: Draw) -> Wave:
        wave = np.zeros(draw.length, np.float32)
        place = 0
        for index, start, gap in draw.speech:
            length = min(self.speech.lengths[index] - start, draw.length - place)
            if length <= 0:
                break
            wave[place : place + length] = self.speech.read(index, start, length)
            place += length + gap
        return wave

    def _noise(self, draw: Draw) -> Wave:
        if draw.noise_start + draw.length <= self.noise.lengths[draw.noise]:
            return self.noise.read(draw.noise, draw.noise_start, draw.length)
        fade = round(_FADE_SECONDS * self.sr)
        return loop(self.noise.read(draw.noise), draw.length, start=draw.noise_start, fade=fade)

    def _id(self, draw: Draw) -> str:
        speech = self.speech.recordings[draw.speech[0][0]].name
        return f"{speech}__{self.noise.recordings[draw.noise].name}__snr{draw.snr:+.4g}"


def _find(
    manifest: str | Path | None, split: str | None, speech_dir: str | Path | None, noise_dir: str | Path | None
) -> tuple[list[Recording], list[Recording]]:
    remedy = "give either `manifest` (and `split`) or both `speech_dir` and `noise_dir`"
    if manifest is not None and speech_dir is None and noise_dir is None:
        return (
            from_manifest(manifest, role="speech", split=split),
            from_manifest(manifest, role="noise", split=split),
        )
    if manifest is None and split is None and speech_dir is not None and noise_dir is not None:
        return from_folder(speech_dir), from_folder(noise_dir)
    named = {"manifest": manifest, "split": split, "speech_dir": speech_dir, "noise_dir": noise_dir}
    given = ", ".join(f"`{name}`" for name, value in named.items() if value is not None) or "nothing"
    raise DataError(f"where the recordings are is not clear: {given} is given", remedy=remedy)


def _range(name: str, value: Sequence[float]) -> tuple[float, float]:
    if len(value) != 2 or not all(map(math.isfinite, value)) or value[0] > value[1]:
        raise DataError(f"`{name}` is {list(value)}", remedy="give the lowest and the highest in dB, such as [-5, 15]")
    return float(value[0]), float(value[1])
