"""Mixes speakers on the fly, for training and testing of separation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch.utils.data import Dataset

from audiozen_core.binding.ranges import Positive, Range, out_of_range
from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.printable import fit_for_file
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.collate import pad_collate
from audiozen_plugins.dataset.mixing import decibel_range, mix_speakers, spoken_rms
from audiozen_plugins.dataset.pairs import ClipSeconds, clip_length
from audiozen_plugins.dataset.pool import Pool
from audiozen_plugins.dataset.recordings import from_folder, from_manifest
from audiozen_plugins.dataset.utterances import PAUSE, Segment, Utterances, spread

_MAX_DRAWS = 100  # if so many mixtures in a row have a silent speaker, this is an error

NumSpeakers = Annotated[int, Range(least=2)]
"""The number of speakers in a mixture."""


@dataclass(frozen=True, slots=True)
class SpeakerDraw:
    """The random choices for one mixture.

    Attributes:
        speakers: the segments of each speaker, one after another.
        length: the length of the mixture in samples.
        gains: the gain of each speaker in dB.
        level: the RMS of the mixture in dBFS.
    """

    speakers: tuple[tuple[Segment, ...], ...]
    length: int
    gains: tuple[float, ...]
    level: float


class SpeakerMix(Dataset[dict[str, Any]]):
    """Mixes utterances of different speakers: each item has random speakers, segments and levels.

    The recordings come from a manifest or from a folder. There are two uses:

    - Training, usually with `clip_seconds`. Each item is drawn from the global generator `random`, which the loader
      seeds for each item.
    - Validation and test, with `fixed = true`. An item is the same in each epoch, and in each run with the same `seed`.
      The utterances of the first speaker go through the whole set in order. The seed determines the other speakers.

    All speakers of a mixture are different. Their levels are made equal, and then changed by random gains. The level of
    a speaker is the RMS of the speech, without the silence that follows a short segment. No sample is clipped.

    An item has the keys `id`, `noisy` (the mixture), `source_1`, `source_2`, … (float32 [time]; they add up to the
    mixture) and `sr` (hertz). The ID consists of the voices and the utterances, joined by `__`, and of a number if it
    is needed to make the ID unique.

    Args:
        manifest: a CSV file with the columns `file` (relative to the manifest), `role` (`speech` or `noise`), `voice`,
            `kind` and `split`. Only speech is used.
        split: the split of the manifest to use, such as `train`; by default all splits.
        speech_dir: a folder with speech, instead of a manifest. Each subfolder has the files of one speaker.
        num_speakers: the number of speakers in a mixture.
        sr: the sample rate that all files must have, in hertz.
        clip_seconds: the length of an item; by default, whole utterances are used.
        length: how utterances of different lengths are mixed. With `min`, all speakers speak until the end of the item:
            if `clip_seconds` is set, further utterances of the same voice follow a short utterance; otherwise, all
            utterances are cut at random to the length of the shortest one. With `max`, an item is as long as the
            longest utterance (or `clip_seconds`), and silence follows the shorter utterances.
        gain_range: the lowest and the highest gain of a speaker in dB; gains are drawn uniformly. The levels of two
            speakers differ by at most the width of the range. The default width is 5 dB, as in WSJ0-2mix.
        level_range: the lowest and the highest RMS level of the mixture, in dBFS; levels are drawn uniformly.
        items_per_epoch: the number of items; by default one for each utterance. If a fixed set has fewer items, they
            are spread evenly over the utterances.
        fixed: whether an item is always the same.
        seed: the seed of fixed items.
        cache_mb: the maximum size of the cache in megabytes; see `NoisySpeechMix`.

    Raises:
        DataError: there are fewer speakers than a mixture needs; a folder, the manifest or a file is missing or can't
            be read; arguments contradict each other.
    """

    collate_fn = staticmethod(pad_collate)

    def __init__(
        self,
        manifest: str | Path | None = None,
        split: str | None = None,
        speech_dir: str | Path | None = None,
        num_speakers: NumSpeakers = 2,
        sr: int = 16000,
        clip_seconds: ClipSeconds | None = None,
        length: Literal["min", "max"] = "min",
        gain_range: Sequence[float] = (-2.5, 2.5),
        level_range: Sequence[float] = (-35.0, -15.0),
        items_per_epoch: Positive | None = None,
        fixed: bool = False,
        seed: int = 0,
        cache_mb: float = 1024.0,
    ) -> None:
        self.sr = sr
        self.num_speakers = num_speakers
        self.clip = clip_length(clip_seconds, sr)
        self.length = length
        self.gain_range = decibel_range("gain_range", gain_range)
        self.level_range = decibel_range("level_range", level_range)
        self.fixed = fixed
        self.seed = seed
        if wrong := out_of_range(SpeakerMix, locals()):
            raise DataError(wrong, remedy="change it, or leave it out")
        if manifest is not None and speech_dir is None:
            found, place = from_manifest(manifest, role="speech", split=split), f"`{manifest}`"
            place += f" in the split `{split}`" if split is not None else ""
        elif manifest is None and split is None and speech_dir is not None:
            found, place = from_folder(speech_dir), f"`{speech_dir}`"
        else:
            raise DataError(
                "the arguments don't say where the speech is",
                remedy="set either `manifest` (and `split`) or `speech_dir`",
            )
        self.speech = Pool(found, sr=sr, cache_mb=cache_mb)
        self._utterances = Utterances(self.speech)
        voices = self._utterances.voices
        if len(voices) < num_speakers:
            names = listed(f"`{voice}`" if voice else "no subfolder" for voice in voices)
            raise DataError(
                f"{place} has speech of {len(voices)} speaker{'s' * (len(voices) != 1)} ({names}), but a mixture needs "
                f"{num_speakers}",
                remedy="lower `num_speakers`, or add speech of other speakers: each has a subfolder of its own, or a "
                "`voice` in the manifest",
            )
        self._num_items = items_per_epoch or len(self.speech)

    def __len__(self) -> int:
        return self._num_items

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Mixes speakers: `id`, `noisy`, `source_1`, `source_2`, … [time], and `sr`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        for attempt in range(_MAX_DRAWS):
            draw = self.draw(index, attempt)
            waves = [self._utterances.read(segments, draw.length) for segments in draw.speakers]
            if all(spoken_rms(wave) > PAUSE for wave in waves):
                break
        else:
            names = ", ".join(f"`{self.speech.recordings.path(one[0].utterance)}`" for one in draw.speakers)
            raise DataError(
                f"{_MAX_DRAWS} random mixtures in a row had a silent speaker; the last one was from {names}",
                remedy="leave out silent recordings",
            )
        mixture, sources = mix_speakers(waves, gains=draw.gains, level=draw.level)
        return {
            "id": self._id(index, draw, attempt),
            "noisy": torch.from_numpy(mixture),
            **{f"source_{number}": torch.from_numpy(wave) for number, wave in enumerate(sources, start=1)},
            "sr": self.sr,
        }

    def draw(self, index: int, attempt: int = 0) -> SpeakerDraw:
        """Makes the random choices for an item, from the seed if items are fixed, and otherwise from `random`.

        Args:
            index: the index of the item.
            attempt: the number of earlier draws for this item, in which a speaker was silent.
        """
        if self.fixed:
            rng = random.Random(f"{self.seed} {index} {attempt}")
            first = spread(index + attempt, self._num_items, len(self.speech))
        else:
            rng = random.Random(random.getrandbits(64))
            first = rng.randrange(len(self.speech))
        own = self._utterances.voice(first)
        places = rng.sample(range(len(self._utterances.voices) - 1), self.num_speakers - 1)
        voices = [place + (place >= own) for place in places]
        chosen = [first, *(rng.choice(self._utterances.of_voice(voice)) for voice in voices)]
        lengths = [self.speech.lengths[utterance] for utterance in chosen]
        length = self.clip or (min(lengths) if self.length == "min" else max(lengths))
        if self.length == "min":
            speakers = [self._utterances.fill(utterance, length, rng)[0] for utterance in chosen]
        else:
            speakers = [self._utterances.part(utterance, length, rng) for utterance in chosen]
        gains = [rng.uniform(*self.gain_range) for _ in chosen]
        return SpeakerDraw(tuple(speakers), length, tuple(gains), rng.uniform(*self.level_range))

    def _id(self, index: int, draw: SpeakerDraw, attempt: int) -> str:
        names = [self.speech.recordings.name(segments[0].utterance) for segments in draw.speakers]
        turn = index // len(self.speech) if self.fixed else index
        # After several draws, the item may have the same utterances as another item.
        numbers = [str(turn + 1)] if turn or not self.fixed else []
        return fit_for_file("__".join([*names, *numbers, *([f"draw{attempt + 1}_of_{index}"] if attempt else [])]))
