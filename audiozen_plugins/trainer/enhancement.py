"""Speech enhancement with a network that processes waveforms, magnitudes or complex spectra."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from audiozen_core.audio.acoustics import Acoustics, window_error
from audiozen_core.audio.stft import Stft
from audiozen_core.binding.ranges import check_ranges
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.errors import RunError
from audiozen_core.kinds import Mode
from audiozen_core.scoring.chosen import as_finding
from audiozen_core.scoring.metric import needs_of
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.module_state import unwrapped
from audiozen_core.trainer.part_errors import name_samples, translate_part_errors
from audiozen_plugins.loss.calls import LossDomain, domains_of, loss_value
from audiozen_plugins.trainer.batches import enhancement_batch
from audiozen_plugins.trainer.domains import (
    Compression,
    Domain,
    Layout,
    choose_domain,
    domain_errors,
    part_error,
    phase,
)
from audiozen_plugins.trainer.file_by_file import FileByFile
from audiozen_plugins.trainer.loss_inputs import LossInputs
from audiozen_plugins.trainer.pieces import enhance_in_pieces

# If a network carries its state, a long file is enhanced in pieces of this length.
_PIECE_SECONDS = 10


class EnhancementTrainer(FileByFile):
    """Trains and tests a network that removes noise.

    A subclass may override `enhance`, `compare`, `training_step`, `prepare_batch` and the steps of the evaluations; see
    docs/build_on_our_classes.md.

    Batches are dicts with `noisy` and `clean` [batch, time] and `id`, and optionally `length` in samples and `snr` in
    dB. The first-party data sets return these keys. A model that processes magnitudes or spectra gets the STFT of
    `[acoustics]`. If the model estimates magnitudes, they get the noisy phase. If the output of a model is delayed, its
    attribute `out_delay` must say by how many frames. The trainer removes this delay.

    A model may declare `domain`, `layout` and `compression`, and its settings of `[acoustics]`, as attributes. Then the
    TOML file need not repeat them, and may not contradict them. The output of a model may have further axes of size 1.

    Args:
        components: the components to work with; passed by AudioZEN.
        domain: the domain of the model's input and output. `magnitude` is [batch, n_fft // 2 + 1, frames], `spectrum`
            is the complex STFT (`layout` says how it is passed), and `waveform` is [batch, time]. The default is the
            declaration of the model, or else `magnitude`.
        layout: how a spectrum is passed to the model: as complex numbers (`complex` [batch, n_fft // 2 + 1, frames]),
            or as real and imaginary part (`channels_first` [batch, 2, n_fft // 2 + 1, frames] or `channels_last`
            [batch, n_fft // 2 + 1, frames, 2]). The default is the declaration of the model, or else `complex`.
        compression: how the magnitudes are compressed for the model: a power, such as 0.3, or `log1p`. The trainer
            reverses the compression of the output. The phase of a spectrum does not change. The loss gets magnitudes
            and spectra without compression. The default is the declaration of the model, or else no compression.
        add_channel: whether a waveform model takes [batch, 1, time], as `torchaudio.models.ConvTasNet` does.
        loss_domain: what the loss compares: `waveform`, `waveform_with_channel` [batch, 1, time], `magnitude`,
            `spectrum` (complex), `features` (magnitudes as [batch, frames, features]), or `both` (the two waveforms,
            then the two magnitudes). The default is the attribute `domain` of the loss, which may be a tuple of several
            domains. If the loss has no such attribute, the default is the domain of the model. The losses of auraloss
            and of `torchmetrics.audio` get waveforms.

    Raises:
        RunError: the model processes the STFT, but the STFT of `[acoustics]` can't be inverted; the model contradicts
            an argument; or the model declares nothing, but a module in it declares another domain or other acoustics.
    """

    suffix: ClassVar[str] = ""
    """The suffix of the enhancement network."""

    def __init__(
        self,
        components: Components,
        *,
        domain: Domain | None = None,
        layout: Layout | None = None,
        compression: Compression | None = None,
        add_channel: bool = False,
        loss_domain: LossDomain | None = None,
        **kwargs: Any,
    ) -> None:
        check_ranges(EnhancementTrainer, locals())
        super().__init__(components, **kwargs)
        args = {"domain": domain, "layout": layout, "compression": compression}
        for _, wrong in domain_errors(self.model, args):
            raise wrong
        self.model_domain = choose_domain(self.model, args)
        self.domain = self.model_domain.domain
        if error := part_error(self.model, self.model_domain, args, self.acoustics):
            raise error
        if self.domain != "waveform" and (error := _stft_error(self.acoustics)):
            raise error
        self.add_channel = add_channel
        self._rates_read_in: int | None = None
        self.loss_domains = tuple(domain or self.domain for domain in domains_of(self.own_loss, loss_domain))
        if strange := [domain for domain in self.loss_domains if domain not in get_args(LossDomain)]:
            raise RunError(
                f"the loss has the attribute `domain` with {strange[0]!r}, which no loss can compare",
                remedy=f"use one of {', '.join(get_args(LossDomain))}, or set `loss_domain` in [trainer.args]",
            )

    @classmethod
    def check_settings(
        cls,
        args: Mapping[str, Any],
        *,
        acoustics: Acoustics,
        dataset_names: Mapping[Mode, Sequence[str]],
        models: Mapping[str, Any] = MappingProxyType({}),
    ) -> Iterator[Diagnostic]:
        """Yields the mistakes that `audiozen check` can find, such as a model that contradicts an argument."""
        yield from super().check_settings(args, acoustics=acoustics, dataset_names=dataset_names)
        model = models.get(cls.suffix)
        errors = list(domain_errors(model, args))
        for argument, wrong in errors:
            place = ("args", argument) if argument in args else ("path",)
            yield as_finding(wrong, config_codes.UNFIT, place)
        # The check of [acoustics] reports lengths that contradict each other.
        consistent = acoustics.hop_length <= acoustics.win_length <= acoustics.n_fft
        if errors or not consistent or window_error(acoustics.window, acoustics.window_args):
            return
        if choose_domain(model, args).domain != "waveform" and (error := _stft_error(acoustics)):
            place = ("args", "domain") if "domain" in args else ("path",)
            yield as_finding(error, config_codes.NUMBERS_DISAGREE, place)

    # ------------------------------------------------------------------------------- the model

    @property
    def own_loss(self) -> Callable[..., Any] | None:
        """The loss function of the enhancement network; None if it has none."""
        return self.loss_functions.get("")

    def enhance(self, noisy: Tensor) -> tuple[Tensor, Tensor | None]:
        """Runs the model.

        Args:
            noisy: waveforms [batch, time].

        Returns:
            The enhanced waveforms [batch, time], and the magnitudes or complex spectra [batch, n_fft // 2 + 1, frames]
            that they were made from. The second value is None if the model returns waveforms.
        """
        if self.domain == "waveform":
            return self._run_model(noisy.unsqueeze(1) if self.add_channel else noisy, noisy.shape), None
        spectrum = self._spectrogram(noisy)
        output = self._output_of(spectrum)[..., self._delay :]
        return self.istft(_with_phase(output, self._in_time(spectrum)), length=noisy.shape[-1]), output

    def enhance_pieces(self, file: Mapping[str, Any], blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Enhances a signal that comes in blocks [batch, time] of any length.

        If the network carries its state, it continues from piece to piece. Otherwise the signal is cut into chunks that
        overlap, and the network starts anew in each chunk.
        """
        own, model = self.__class__, unwrapped(self.model)
        is_ours = own.enhance is EnhancementTrainer.enhance and own.enhance_batch is EnhancementTrainer.enhance_batch
        carries = getattr(model, "carries_state", False) and self.domain != "waveform"
        if self.restarts or not (is_ours and carries):
            return super().enhance_pieces(file, blocks)
        return enhance_in_pieces(
            lambda noisy, partners: _with_phase(self._output_of(noisy), partners),
            blocks,
            stft=self._transform,
            delay=self._delay,
            frames=max(1, round(_PIECE_SECONDS * self.sr / self.hop_length)),
        )

    @functools.cached_property
    def _transform(self) -> Stft:
        """The STFT for `enhance_in_pieces`. It is cached, so that its window is computed only once."""
        return Stft(self.acoustics)

    def _output_of(self, spectrum: Tensor) -> Tensor:
        """Calls the model for complex spectra [batch, n_fft // 2 + 1, frames]. Returns magnitudes or spectra."""
        given = self.model_domain.to_model(spectrum)
        return self.model_domain.from_model(self._run_model(given, given.shape))

    @property
    def _delay(self) -> int:
        """The delay of the output of the model, in frames."""
        return int(getattr(unwrapped(self.model), "out_delay", 0))

    def _spectrogram(self, wave: Tensor) -> Tensor:
        """Transforms waveforms [batch, time] to spectrograms, with `_delay` additional frames at the end."""
        return self.stft(F.pad(wave, (0, self._delay * self.hop_length)))

    def _in_time(self, frames: Tensor) -> Tensor:
        """Removes the additional frames of `_spectrogram`, so that the frames match the output without its delay."""
        return frames[..., : frames.shape[-1] - self._delay]

    def _run_model(self, given: Tensor, shape: torch.Size, *further: Tensor) -> Tensor:
        """Calls the model, and returns its output in float32 or complex64, with the given shape.

        `further` are additional inputs of the model. Instead of real and imaginary parts in an axis of their own, the
        model may return complex numbers.
        """
        remedy = (
            f"the input of a {self.domain} model is {self.model_domain.shape}; `domain` (now {self.domain!r}), "
            "`layout` and `add_channel` in [trainer.args], or attributes of the model, define it"
        )
        with translate_part_errors("the model", given, *further, remedy=remedy):
            output = self.model(given, *further)
        fitting = self._fitting(output, given, shape) if isinstance(output, Tensor) else None
        if fitting is None:
            raise self._wrong_output(output, given, shape)
        return fitting.to(torch.complex64) if fitting.is_complex() else fitting.float()

    def _fitting(self, output: Tensor, given: Tensor, shape: torch.Size) -> Tensor | None:
        """Returns the output of the model with the given shape, or as complex numbers; None if it does not fit."""
        # Many networks keep axes of size 1, such as [batch, 1, time] for a single source.
        if output.is_complex() == given.is_complex() and _without_ones(output.shape) == _without_ones(shape):
            return output.reshape(shape)
        parts = {"channels_first": 1, "channels_last": -1}.get(self.model_domain.layout, 0)
        bins = given.select(parts, 0).shape if self.domain == "spectrum" and parts else None
        if bins and output.is_complex() and _without_ones(output.shape) == _without_ones(bins):
            return output.reshape(bins)
        return None

    def _wrong_output(self, output: Any, given: Tensor, shape: torch.Size) -> RunError:
        got, wanted, remedy = (
            type(output).__name__,
            str(list(shape)),
            "return one enhanced signal for each noisy signal",
        )
        remedy += "; a separation model needs the trainer `separation`"
        if isinstance(output, Tensor):
            got = str(list(output.shape))
            if output.is_complex() != given.is_complex():
                got, wanted = f"{_kind(output)} ({output.dtype}) {got}", f"{_kind(given)} {wanted}"
                remedy = 'return real numbers, such as the magnitude `output.abs()`, or set `domain = "spectrum"`'
                if given.is_complex():
                    remedy = "return complex numbers, or set `layout` to the layout of the output"
        return RunError(
            f"the model returns {got} for an input of shape {list(given.shape)}; expected {wanted}", remedy=remedy
        )

    def compare(self, wave: Tensor, spectrum: Tensor | None, clean: Tensor) -> Tensor:
        """Computes the loss of enhanced waveforms [batch, time] against clean waveforms.

        `spectrum` contains the magnitudes or the complex spectra that the enhanced waveforms were made from, if known.
        """
        signals = LossInputs(lambda wave: self._in_time(self._spectrogram(wave)), wave, spectrum, clean)
        inputs = [signal for domain in self.loss_domains for signal in signals.pair(domain)]
        remedy = (
            f"`loss_domain` in [trainer.args] (now {', '.join(self.loss_domains)}) defines the loss's inputs: "
            "`waveform` [batch, time], `waveform_with_channel` [batch, 1, time], `magnitude` or `spectrum` [batch, "
            "n_fft // 2 + 1, frames], `features` [batch, frames, features]"
        )
        with translate_part_errors("the loss", *inputs, remedy=remedy):
            return loss_value(self.loss_function, *inputs)

    # ------------------------------------------------------------------------------- the modes

    def prepare_batch(self, batch: Any, mode: Mode) -> dict[str, Any]:
        """Checks that the batch has the signals that the mode needs, and that their sample rates are right."""
        reference_free = any("clean" not in needs_of(metric) for metric in self.metrics)
        return enhancement_batch(batch, mode, sr=self.sr, wait=self._reads_rates(mode), optional=reference_free)

    def _reads_rates(self, mode: Mode) -> bool:
        """Returns whether to check sample rates that are on a GPU.

        In training, they are checked once in each epoch, because the CPU must wait for the GPU.
        """
        wait = mode != "train" or self._rates_read_in != self.progress.epoch
        if mode == "train":
            self._rates_read_in = self.progress.epoch
        return wait

    def training_step(self, batch: Any, batch_idx: int) -> Mapping[str, Tensor]:
        """Returns the loss of one batch."""
        wave, spectrum = self.enhance_batch(batch)
        return {"loss": self.compare(wave, spectrum, batch[self.target])}

    def enhance_batch(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Calls `enhance`, and adds the IDs of the batch to its errors. In an evaluation, a batch is one file."""
        with name_samples(batch):
            return self.enhance(batch["noisy"])


def _stft_error(acoustics: Acoustics) -> RunError | None:
    """Returns an error if the inverse of the STFT is not exact; None if it is exact."""
    if Stft(acoustics).invertible:
        return None
    return RunError(
        f"the STFT in [acoustics] can't be inverted to 1e-6: a {acoustics.window} window of {acoustics.win_length} "
        f"samples every {acoustics.hop_length} samples is almost 0 for some of them",
        remedy="let the frames overlap more (`hop_length` at most half of `win_length`, or a quarter for a narrow "
        'window), or set `window = "rectangular"` in [acoustics]',
    )


def _with_phase(output: Tensor, noisy: Tensor) -> Tensor:
    """Returns complex spectra [batch, …]. If the output is magnitudes, they get the phase of the noisy spectra."""
    if output.is_complex():
        return output
    # If the magnitude of a noisy bin is 0, the bin has no phase, so the result is 0 for any output. A separation model
    # has several outputs for each input.
    return (output.reshape(len(noisy), -1, *output.shape[1:]) * phase(noisy).unsqueeze(1)).flatten(0, 1)


def _kind(output: Tensor) -> str:
    return "complex numbers" if output.is_complex() else "real numbers"


def _without_ones(shape: torch.Size) -> list[int]:
    return [size for size in shape if size != 1]
