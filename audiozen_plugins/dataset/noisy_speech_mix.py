"""Mixes speech and noise on the fly, at random or fixed signal-to-noise ratios."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from audiozen_core.binding.ranges import Positive, Range, out_of_range
from audiozen_core.diagnostics.printable import fit_for_file
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.collate import pad_collate
from audiozen_plugins.dataset.mixing import FloatArray, change_speed, decibel_range, loop, mix, rms
from audiozen_plugins.dataset.pairs import ClipSeconds, clip_length
from audiozen_plugins.dataset.pool import Pool
from audiozen_plugins.dataset.recordings import Recordings, from_folder, from_manifest
from audiozen_plugins.dataset.utterances import PAUSE, Segment, Utterances, spread

Speed = Annotated[float, Range(least=0.5, most=2)]
_FADE_SECONDS = 0.02  # the crossfade between repetitions of a short noise
_MAX_DRAWS = 100  # if so many segments in a row are silent, this is an error


@dataclass(frozen=True, slots=True)
class Draw:
    """The random choices for one item.

    Attributes:
        speech: the segments of speech, one after another.
        length: the length of the item in samples.
        noise: the index of the noise recording.
        noise_start: the first sample of the noise recording that is used.
        snr: the signal-to-noise ratio in dB.
        level: the RMS of the mixture in dBFS.
        source_length: the number of samples to read. `change_speed` converts them to `length` samples.
    """

    speech: tuple[Segment, ...]
    length: int
    noise: int
    noise_start: int
    snr: float
    level: float
    source_length: int


class NoisySpeechMix(Dataset[dict[str, Any]]):
    """Mixes noisy speech: each item is a random segment of speech plus a random segment of noise.

    The SNR and the level of the mixture are random, too.

    The recordings come from a manifest or from two folders. There are two uses:

    - Training, with `clip_seconds` and `snr_range`. Each item is drawn from the global generator `random`, which the
      loader seeds for each item. If an utterance is shorter than the clip, other utterances of the same voice follow.
    - Validation and test, with `snrs` (a grid) or with `fixed = true`. An item is the same in each epoch, and in each
      run with the same `seed`. With a grid, an utterance is mixed with the same noise at each SNR, so that scores at
      different SNRs can be compared. All noises are used equally often. Without `clip_seconds`, an item is a whole
      utterance.

    The SNR is the ratio of the mean power of speech and noise over the whole item, pauses included. No sample is
    clipped. A noise that is shorter than the item is repeated with a crossfade.

    With `speed_range`, speech and noise are played faster or slower, like a tape, so that a few voices sound like more
    voices (Ko et al., "Audio Augmentation for Speech Recognition", Interspeech 2015).

    An item has the keys `id`, `noisy` and `clean` (float32 [time]), `snr` (dB) and `sr` (hertz). The ID consists of the
    voice and the utterance, the kind of noise and the noise, and the SNR, joined by `__`. IDs are unique: if a fixed
    set has several items with the same utterance (and SNR), all but the first item get a number at the end. Items that
    are not fixed get their index at the end.

    Args:
        manifest: a CSV file with the columns `file` (relative to the manifest), `role` (`speech` or `noise`), `voice`,
            `kind` (of noise) and `split`.
        split: the split of the manifest to use, such as `train`; by default all splits.
        speech_dir: a folder with speech, instead of a manifest. Each subfolder has the files of one voice.
        noise_dir: a folder with noise, together with `speech_dir`. Each subfolder has the files of one kind of noise.
        sr: the sample rate that all files must have, in hertz.
        clip_seconds: the length of an item; by default a whole utterance.
        snr_range: the lowest and the highest SNR in dB; SNRs are drawn uniformly. The default is [-5, 20], if `snrs` is
            not given.
        snrs: a grid of SNRs in dB, instead of a range. Each SNR may occur only once.
        level_range: the lowest and the highest RMS level of the mixture, in dBFS; levels are drawn uniformly.
        speed_range: the lowest and the highest speed, such as [0.9, 1.1]; speeds are drawn uniformly, in steps of 0.01.
            By default, the speed is not changed.
        items_per_epoch: the number of items; by default one for each utterance (and each SNR of the grid). If a fixed
            set has fewer items, they are spread evenly over the utterances.
        fixed: whether an item is always the same; by default true with a grid and false with a range.
        seed: the seed of fixed items.
        cache_mb: the maximum size of the cache in megabytes. Speech and noise each have their own cache of this size. A
            sample takes two bytes if the file is mono and has 16 bits, and four bytes otherwise. If the recordings need
            more, they are not cached, and each item is read from its files.

    Raises:
        DataError: a folder, the manifest or a file is missing or can't be read; arguments contradict each other.
    """

    collate_fn = staticmethod(pad_collate)

    def __init__(
        self,
        manifest: str | Path | None = None,
        split: str | None = None,
        speech_dir: str | Path | None = None,
        noise_dir: str | Path | None = None,
        sr: int = 16000,
        clip_seconds: ClipSeconds | None = None,
        snr_range: Sequence[float] | None = None,
        snrs: Sequence[float] | None = None,
        level_range: Sequence[float] = (-35.0, -15.0),
        speed_range: Sequence[Speed] | None = None,
        items_per_epoch: Positive | None = None,
        fixed: bool | None = None,
        seed: int = 0,
        cache_mb: float = 1024.0,
    ) -> None:
        if snr_range is not None and snrs is not None:
            raise DataError("both `snr_range` and `snrs` are given", remedy="set only one of them")
        if snrs is not None and not (snrs and all(map(math.isfinite, snrs))):
            raise DataError(f"`snrs` is {list(snrs)}", remedy="give at least one SNR in dB, such as [0, 5, 10]")
        fixed = snrs is not None if fixed is None else fixed
        if fixed and snrs is not None and len(set(snrs)) < len(snrs):
            raise DataError(
                f"`snrs` is {list(snrs)}, with an SNR that is repeated",
                remedy="give each SNR once: a repeated SNR would only repeat the same items",
            )
        self.sr = sr
        self.snrs = None if snrs is None else [float(snr) for snr in snrs]
        self.snr_range = decibel_range("snr_range", (-5.0, 20.0) if snr_range is None else snr_range)
        self.level_range = decibel_range("level_range", level_range)
        self.fixed = fixed
        self.seed = seed
        self.clip = clip_length(clip_seconds, sr)
        if wrong := out_of_range(NoisySpeechMix, locals()):
            raise DataError(wrong, remedy="change it, or leave it out")
        self.speeds = None if speed_range is None else _percents(speed_range)
        speech, noise = _find(manifest, split, speech_dir, noise_dir)
        self.speech = Pool(speech, sr=sr, cache_mb=cache_mb)
        self.noise = Pool(noise, sr=sr, cache_mb=cache_mb)
        self._utterances = Utterances(self.speech)
        turns = random.Random(seed).sample(range(len(self.noise)), len(self.noise)) if fixed else []
        self._noise_turns = np.array(turns, np.int64)  # worker processes share an array, but would copy a list
        self._num_grid = len(self.snrs or [0.0])
        self._num_items = items_per_epoch or len(self.speech) * self._num_grid

    def __len__(self) -> int:
        return self._num_items

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Mixes speech and noise: `id`, `noisy` and `clean` [time], `snr` in dB, and `sr`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        for attempt in range(_MAX_DRAWS):
            draw = self.draw(index, attempt)
            speech, noise = self._utterances.read(draw.speech, draw.source_length), self._noise(draw)
            of_speech, of_noise = rms(speech), rms(noise)
            if of_speech > PAUSE and of_noise > 0:
                break
        else:
            files = self.speech.recordings.path(draw.speech[0].utterance), self.noise.recordings.path(draw.noise)
            names = ", ".join(f"`{file}`" for file in files)
            raise DataError(
                f"in {_MAX_DRAWS} random draws in a row, the speech or the noise was silent; the last draw used "
                f"{names}",
                remedy="leave out silent recordings",
            )
        loudness: tuple[float, float] | None = of_speech, of_noise
        if draw.source_length != draw.length:
            speech, noise = change_speed(np.stack([speech, noise]), draw.length)
            loudness = None
        noisy, clean = mix(speech, noise, snr=draw.snr, level=draw.level, loudness=loudness)
        return {
            "id": self._id(index, draw),
            "noisy": torch.from_numpy(noisy),
            "clean": torch.from_numpy(clean),
            "snr": draw.snr,
            "sr": self.sr,
        }

    def draw(self, index: int, attempt: int = 0) -> Draw:
        """Makes the random choices for an item, from the seed if items are fixed, and otherwise from `random`.

        Args:
            index: the index of the item.
            attempt: the number of earlier draws for this item that were silent.
        """
        utterance, grid_index = divmod(index, self._num_grid)
        if not self.fixed:
            rng = random.Random(random.getrandbits(64))
            utterance, noise = rng.randrange(len(self.speech)), rng.randrange(len(self.noise))
        else:
            # The seed does not contain the SNR, so that the choices are the same for each SNR of the grid.
            rng = random.Random(f"{self.seed} {utterance} {attempt}")
            turn = utterance + utterance // len(self.speech) + attempt
            count = -(-self._num_items // self._num_grid)
            utterance, noise = (
                spread(utterance, count, len(self.speech)),
                int(self._noise_turns[turn % len(self.noise)]),
            )
        level = rng.uniform(*self.level_range)
        speed = 1.0 if self.speeds is None else rng.randint(*self.speeds) / 100
        speech, source = self._utterances.fill(utterance, self.clip and round(self.clip * speed), rng)
        length = self.clip or round(source / speed)
        room = self.noise.lengths[noise] - source
        noise_start = rng.randrange(room + 1 if room >= 0 else self.noise.lengths[noise])
        if self.snrs is None:
            snr = rng.uniform(*self.snr_range)
        else:
            snr = self.snrs[grid_index] if self.fixed else rng.choice(self.snrs)
        return Draw(speech, length, noise, noise_start, snr, level, source)

    def _noise(self, draw: Draw) -> FloatArray:
        if draw.noise_start + draw.source_length <= self.noise.lengths[draw.noise]:
            return self.noise.read(draw.noise, draw.noise_start, draw.source_length)
        fade = round(_FADE_SECONDS * self.sr)
        return loop(self.noise.read(draw.noise), draw.source_length, start=draw.noise_start, fade=fade)

    def _id(self, index: int, draw: Draw) -> str:
        names = self.speech.recordings.name(draw.speech[0].utterance), self.noise.recordings.name(draw.noise)
        # The SNRs of a grid must also differ as text, because the ID contains them.
        snr = f"{draw.snr:+.4g}" if self.snrs is None else f"{draw.snr:+}".removesuffix(".0")
        turn = index // self._num_grid // len(self.speech) if self.fixed else index
        return fit_for_file("__".join((*names, f"snr{snr}", *([str(turn + 1)] if turn or not self.fixed else []))))


def _percents(speed_range: Sequence[float]) -> tuple[int, int]:
    if len(speed_range) != 2 or speed_range[0] > speed_range[1]:
        raise DataError(
            f"`speed_range` is {list(speed_range)}", remedy="give the lowest and the highest speed, such as [0.9, 1.1]"
        )
    return round(100 * speed_range[0]), round(100 * speed_range[1])


def _find(
    manifest: str | Path | None, split: str | None, speech_dir: str | Path | None, noise_dir: str | Path | None
) -> tuple[Recordings, Recordings]:
    remedy = "set either `manifest` (and `split`) or both `speech_dir` and `noise_dir`"
    if manifest is not None and speech_dir is None and noise_dir is None:
        return (
            from_manifest(manifest, role="speech", split=split),
            from_manifest(manifest, role="noise", split=split),
        )
    if manifest is None and split is None and speech_dir is not None and noise_dir is not None:
        return from_folder(speech_dir), from_folder(noise_dir)
    named = {"manifest": manifest, "split": split, "speech_dir": speech_dir, "noise_dir": noise_dir}
    given = ", ".join(f"`{name}`" for name, value in named.items() if value is not None) or "nothing"
    raise DataError(f"the arguments don't say where the recordings are; given: {given}", remedy=remedy)
