"""A trained network that is ready for use: it enhances arrays and files of any rate, length and number of channels."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from audiozen_core.audio.chunks import join_pieces
from audiozen_core.audio.files import AudioInfo, open_audio
from audiozen_core.audio.resampling import check_sample_rates, resampled
from audiozen_core.errors import DataError, RunError
from audiozen_core.inference.formats import Format
from audiozen_core.inference.results import EnhancedFile, write_result
from audiozen_core.inference.signals import Array, as_waves
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.module_state import ModuleState

_BLOCK_SECONDS = 10  # how much of a file is read at once


_Result = TypeVar("_Result")


class EnhancingTrainer(Protocol):
    """The protocol of a trainer, a subclass of `BaseTrainer`, whose networks can be used outside of a run."""

    sr: int

    def enhance_blocks(self, blocks: Iterable[Tensor], names: Sequence[str]) -> Iterator[Tensor]:
        """Enhances signals of any length, in bounded memory.

        Args:
            blocks: the signals [batch, time] in float32, at the rate `sr` and on the device of the trainer, in blocks
                of any length.
            names: a name for each signal, such as the ID of its file.

        Yields:
            The enhanced signals [batch, time], or [batch, outputs, time] if the network returns several signals, in
            pieces of any length, which together have as many samples as the blocks.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The source of the weights of a network.

    Attributes:
        name: the name that the user gave: a folder, a file, or the name of a published network.
        path: the folder of the checkpoint, or the file of the weights.
        weights: the name of the weights: `raw`, or weights that a hook offers, such as `ema`; "" if the hooks decide.
        epoch: the epoch of the checkpoint; None if it is not known.
        step: the optimiser step of the checkpoint; None if it is not known.
        settings: the part of the configuration that decides what the network computes, as TOML.
        files: the files of modules that do not belong to a package.
        code: a hash of the code that decides what the network computes: of these files, of the packages that define the
            network and its trainer, and of AudioZEN's code that reads, resamples and writes audio.
    """

    name: str
    path: Path
    weights: str = ""
    epoch: int | None = None
    step: int | None = None
    settings: str = ""
    files: tuple[Path, ...] = ()
    code: str = ""


def check_attenuation_limit(decibels: float | None) -> None:
    """Raises a `RunError` if a limit is negative or NaN."""
    if decibels is not None and not decibels >= 0:
        raise RunError(f"the attenuation limit is {decibels} dB", remedy="give 0 or more")


class Enhancer:
    """A trained network, ready for use. `audiozen.load` returns one.

    Attributes:
        trainer: the trainer that the network was loaded with. It knows how a signal becomes the input of the network.
        source: where the weights come from.
        sr: the sample rate of the network, in hertz. Audio with another rate is resampled to this rate, and the result
            is resampled back.

    Example:
        >>> model = audiozen.load("exp/baseline")  # doctest: +SKIP
        >>> enhanced = model.enhance(noisy, sr=48000)  # doctest: +SKIP
        >>> model.enhance_file("meeting.wav", "enhanced/meeting.wav")  # doctest: +SKIP
    """

    def __init__(self, trainer: BaseTrainer, source: ModelSource) -> None:
        if not callable(getattr(trainer, "enhance_blocks", None)):
            raise RunError(
                f"the trainer `{type(trainer).__name__}` has no method `enhance_blocks`",
                remedy="define this method, as `audiozen.EnhancingTrainer` describes",
            )
        self.trainer = trainer
        self.source = source
        self.sr: int = trainer.sr
        trainer.set_mode(training=False)

    @property
    def network(self) -> nn.Module:
        """The network, if the experiment has exactly one that enhances."""
        return self.trainer.model

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.trainer.device

    def __repr__(self) -> str:
        count = sum(weight.numel() for weight in self.network.parameters())
        return (
            f"<{type(self.network).__name__} from {self.source.name}: {self.sr} Hz, {count:,} weights, {self.device}>"
        )

    def fingerprint(self) -> str:
        """Returns a hash of the weights and settings. Together with `source.code`, it determines the output.

        Only the last digits of the output also depend on the device, and on the versions of Python, torch and NumPy.
        """
        digest = hashlib.sha256(self.source.settings.encode())
        for suffix, model in sorted(self.trainer.models.items()):
            for name, value in sorted(ModuleState(model).state_dict().items()):
                if isinstance(value, Tensor):
                    digest.update(f"{suffix} {name} {value.dtype} {list(value.shape)}".encode())
                    digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def enhance(self, audio: Array, sr: int, *, mix: bool = False, attenuation_limit: float | None = None) -> Array:
        """Enhances an array.

        Each channel is enhanced separately, because the networks have one channel. Long audio is enhanced in pieces.

        Args:
            audio: a NumPy array or a tensor, [time] or [channels, time]. Floats have full scale at 1. Integers (uint8,
                int16, int32) are scaled, and the result has the same dtype.
            sr: the sample rate of the array, in hertz.
            mix: whether to enhance the average of the channels. The result then has one channel.
            attenuation_limit: the maximum attenuation, in dB. The result contains a part of the input, so that nothing
                is attenuated by more than this limit.

        Returns:
            The enhanced audio, with the same shape, type and device. If the network returns several signals, such as
            one for each speaker, they have an axis before the time axis.

        Raises:
            DataError: the audio has another shape, no samples, NaN or infinity, or values that can't be audio; or it
                can't be resampled.
        """
        waves, restore = as_waves(audio)
        result = join_pieces(
            self.enhance_stream([waves], sr, mix=mix, attenuation_limit=attenuation_limit), waves.shape[-1]
        )
        return restore(result)  # type: ignore[no-any-return]

    def enhance_file(
        self,
        source: str | Path,
        target: str | Path,
        *,
        name: str | None = None,
        mix: bool = False,
        attenuation_limit: float | None = None,
        subtype: str | None = None,
        on_seconds: Callable[[float], object] = lambda seconds: None,
    ) -> EnhancedFile:
        """Enhances an audio file piece by piece, so that files of several hours need no more memory than short files.

        The result has the sample rate, the channels and the length of the input. It is written completely or not at
        all.

        Args:
            source: the file, of any rate and any format that libsndfile reads.
            target: the file to write, which is replaced if it exists. Its extension determines the format: `.wav`,
                `.flac`, `.ogg`, … If the network returns several signals, they are written as `target_1.wav`,
                `target_2.wav`, … in this order.
            name: the name of the signal, on which the noise of a generative network depends; by default the name of the
                file without its extension.
            mix: whether to enhance the average of the channels. The result then has one channel.
            attenuation_limit: the maximum attenuation, in dB.
            subtype: the encoding of the samples, as libsndfile calls it, such as `PCM_24`; by default the encoding of
                the input, if the format supports this encoding, and the encoding has at least 16 bits.
            on_seconds: called with the duration of each piece that has been read, in seconds.

        Raises:
            DataError: the file can't be read or written, or it can't be resampled to the rate of the network; or the
                result would replace the input.
        """
        return enhance_file_by(
            self, partial(write_result, source=Path(source)), Path(source), Path(target), name=name, mix=mix,
            attenuation_limit=attenuation_limit, subtype=subtype,
            on_block=lambda frames, info: on_seconds(frames / info.sr),
        )  # fmt: skip

    @torch.no_grad()
    def enhance_stream(
        self,
        blocks: Iterable[Tensor],
        sr: int,
        *,
        names: Sequence[str] = (),
        mix: bool = False,
        attenuation_limit: float | None = None,
    ) -> Iterator[Tensor]:
        """Enhances a stream of blocks [channels, time] in float32, in bounded memory.

        Args:
            blocks: the stream, in blocks of any length.
            sr: the sample rate of the stream, in hertz.
            names: the name of each channel, on which the noise of a generative network depends.
            mix: whether to enhance the average of the channels.
            attenuation_limit: the maximum attenuation, in dB.

        Yields:
            The enhanced stream [channels, time], or [channels, signals, time], on the CPU, in pieces of any length,
            which together have as many samples as the blocks.

        Raises:
            DataError: the audio can't be resampled.
            RunError: `attenuation_limit` is given, but the network returns several signals; or the network returns a
                different number of samples than it gets.
        """
        check_attenuation_limit(attenuation_limit)
        check_sample_rates(sr, self.sr)
        received = _Input(blocks, mix=mix, keeps=attenuation_limit is not None)
        enhanced = self._at_own_rate(resampled(received, sr, self.sr), names)
        done = 0
        for piece in resampled(enhanced, self.sr, sr):
            # After resampling twice, a signal may have one more sample than before.
            piece = piece[..., : received.samples - done].cpu()  # noqa: PLW2901
            done += piece.shape[-1]
            if attenuation_limit is not None:
                if piece.ndim == 3:
                    raise RunError(
                        "the network returns several signals, so `attenuation_limit` can't be used",
                        remedy="leave it out",
                    )
                kept = 10 ** (-attenuation_limit / 20)
                piece = kept * received.take(piece.shape[-1]) + (1 - kept) * piece  # noqa: PLW2901
            if piece.shape[-1]:
                yield piece
        if done != received.samples:
            raise RunError(
                f"the network returns {done} samples for {received.samples} at {sr} Hz",
                remedy="let `enhance_blocks` of the trainer return as many samples as it gets",
            )

    def _at_own_rate(self, blocks: Iterable[Tensor], names: Sequence[str]) -> Iterator[Tensor]:
        """Enhances blocks [channels, time] at the rate of the network."""
        blocks = iter(blocks)
        first = next(blocks, None)
        if first is None:
            raise DataError("the audio is empty", remedy="give it at least one sample")
        second = next(blocks, None)
        short = first.shape[-1] if second is None else None
        if short is not None and (missing := self.trainer.acoustics.n_fft - short) > 0:
            # An STFT needs more samples than half of `n_fft`.
            first = nn.functional.pad(first, (0, missing))
        stream = itertools.chain([first], [] if second is None else [second], blocks)
        moved = (block.to(self.device) for block in stream)
        trainer = cast(EnhancingTrainer, self.trainer)
        for piece in trainer.enhance_blocks(moved, names or [""] * len(first)):
            yield piece if short is None else piece[..., :short]


def enhance_file_by(
    model: Enhancer,
    write: Callable[[Iterable[Tensor], Path, AudioInfo, Format], _Result],
    source: Path,
    target: Path,
    *,
    name: str | None,
    mix: bool,
    attenuation_limit: float | None,
    subtype: str | None,
    on_block: Callable[[int, AudioInfo], object],
) -> _Result:
    """Enhances a file as `Enhancer.enhance_file` does, but lets `write` decide when the result is written.

    `write` must consume the pieces before it returns, because they come from the open file.
    """
    with open_audio(source) as audio:
        info = audio.info

        def blocks() -> Iterator[Tensor]:
            for block in audio.blocks(_BLOCK_SECONDS * info.sr):
                on_block(block.shape[-1], info)
                yield block

        names = [source.stem if name is None else name] * (1 if mix else info.channels)
        pieces = model.enhance_stream(blocks(), info.sr, names=names, mix=mix, attenuation_limit=attenuation_limit)
        return write(pieces, target, info, Format.of_file(target, audio.subtype, subtype))


class _Input:
    """The blocks of the input, which are counted and, if needed, kept until the output has reached them.

    Args:
        blocks: [channels, time] in blocks.
        mix: whether to yield the average of the channels.
        keeps: whether to keep the blocks for `take`.
    """

    def __init__(self, blocks: Iterable[Tensor], *, mix: bool, keeps: bool) -> None:
        self.samples = 0
        self._blocks = blocks
        self._mix = mix
        self._kept: deque[Tensor] | None = deque() if keeps else None

    def __iter__(self) -> Iterator[Tensor]:
        for block in self._blocks:
            wave = block.mean(0, keepdim=True) if self._mix else block
            self.samples += wave.shape[-1]
            if self._kept is not None:
                self._kept.append(wave.cpu())
            yield wave

    def take(self, count: int) -> Tensor:
        """Returns the next kept samples [channels, count]."""
        assert self._kept is not None
        taken: list[Tensor] = []
        while count:
            block = self._kept.popleft()
            if block.shape[-1] > count:
                self._kept.appendleft(block[:, count:])
                block = block[:, :count]
            taken.append(block)
            count -= block.shape[-1]
        return torch.cat(taken, dim=-1) if taken else torch.zeros(1, 0)
