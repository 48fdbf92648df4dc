"""Separates the waveform of a mixture into one waveform for each speaker."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import RunError
from audiozen_core.kinds import Mode
from audiozen_core.scoring.chosen import MetricSpec
from audiozen_core.scoring.metric import Metric
from audiozen_core.scoring.over_speakers import MeanOverSpeakers
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.module_state import unwrapped
from audiozen_core.trainer.part_errors import translate_part_errors
from audiozen_plugins.loss.calls import loss_value
from audiozen_plugins.loss.permutations import best_permutation, reordered
from audiozen_plugins.loss.pit import pairwise_si_snr
from audiozen_plugins.trainer.batches import enhancement_batch
from audiozen_plugins.trainer.enhancement import EnhancementTrainer

# `pad_collate` adds `source_1_length`, which is not a signal.
_SOURCE = re.compile(r"source_([1-9]\d*)")


class SeparationTrainer(EnhancementTrainer):
    """Trains and tests a network that separates speakers.

    A model in the domain `waveform` maps mixtures [batch, time] to [batch, speakers, time]. A model in another domain
    gets the same input as in the trainer `enhancement`. Its output has an additional axis for the speakers after the
    batch axis.

    The loss gets the estimates and the sources as waveforms [batch, speakers, time]. It must not depend on the order of
    the speakers, unless this order has a meaning. `pit_si_snr` does not depend on it. A mixture may have up to 8
    speakers.

    Batches are dicts with `noisy` (the mixtures), `source_1`, `source_2`, … [batch, time] and `id`, as `speaker_mix`
    and `mixture_folders` return them. Prediction needs only `noisy` and `id`, as `audio_folder` returns them.

    Validation and test assign the estimates of a file to its sources before any metric rates them. The assignment with
    the highest mean SI-SNR is used, and it holds for the whole file. The value of a metric for a file is the mean over
    its speakers. For the mixture, the metric rates the mixture itself as the estimate of each source. The score is the
    mean improvement of the metric `score` over the mixture.

    The test writes `audio/<ID>_mixture.wav`, `<ID>_separated_1.wav`, … in the order of the sources, and
    `<ID>_source_1.wav`, …. Prediction writes `<ID>_1.wav`, `<ID>_2.wav`, … in the order of the network. The files are
    float32, so that nothing is clipped: SI-SNR does not determine the level of an estimate.

    If a file is separated in chunks, the speakers of each chunk are put into the order of the previous chunk. This is
    the order with the highest SI-SNR in the overlap of both chunks. A speaker who is silent during the whole overlap
    can't be recognised, so set `overlap_seconds` to more than the longest pause.

    Args:
        components: the components to work with; passed by AudioZEN.
        metrics: the metrics of the test, as names or as tables. Each metric rates one speaker at a time.
        kwargs: the other arguments of `EnhancementTrainer`. `loss_domain` can only be `waveform`.

    Raises:
        RunError: as for `EnhancementTrainer`; or the loss compares something other than waveforms; or the model and the
            data sets have different numbers of speakers.
    """

    target: ClassVar = "source"
    states: ClassVar = {"mixture": "mixture", "separated": "sep."}
    group: ClassVar = ""
    score_is_gain: ClassVar = True
    encoding: ClassVar = "float"
    pairs_remedy: ClassVar = "give it mixtures of speakers none of whom is silent, or remove the section"

    def __init__(
        self, components: Components, *, metrics: Sequence[MetricSpec] = ("si_sdr", "sdr"), **kwargs: Any
    ) -> None:
        super().__init__(components, metrics=metrics, **kwargs)
        if self.loss_functions and (others := set(self.loss_domains) - {"waveform"}):
            raise RunError(
                f"the loss compares `{min(others)}`, but the trainer `separation` compares waveforms",
                remedy='use `pit_si_snr`, or set `loss_domain = "waveform"` in [trainer.args] if the loss takes '
                "waveforms [batch, speakers, time]",
            )

    @staticmethod
    def metric_of_file(metric: Metric) -> Metric:
        """Returns the mean of a metric over the speakers."""
        return MeanOverSpeakers(metric)

    # ------------------------------------------------------------------------------- the model

    def enhance(self, noisy: Tensor) -> tuple[Tensor, Tensor | None]:
        """Separates mixtures [batch, time]. Returns the speakers [batch, speakers, time], and None."""
        waves, _ = super().enhance(noisy)
        return waves.reshape(len(noisy), -1, waves.shape[-1]), None

    def _fitting(self, output: Tensor, given: Tensor, shape: torch.Size) -> Tensor | None:
        """Joins the axes of batch and speakers in the output of the model. Returns None if the output does not fit."""
        fits = output.ndim == len(shape) + 1 and (len(output), *output.shape[2:]) == tuple(shape)
        return output.flatten(0, 1) if fits and output.is_complex() == given.is_complex() else None

    def _wrong_output(self, output: Any, given: Tensor, shape: torch.Size) -> RunError:
        got = f"{output.dtype} {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        wanted = ", ".join(map(str, (shape[0], "speakers", *shape[1:])))
        return RunError(
            f"the model returns {got} for an input {given.dtype} {list(given.shape)}; expected [{wanted}]",
            remedy="return one signal for each speaker, with the same type and length as the input",
        )

    def enhance_batch(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Calls `enhance`, and compares the number of speakers with the number of sources."""
        waves, spectrum = super().enhance_batch(batch)
        count = batch[self.target].shape[1] if self.target in batch else waves.shape[1]
        if waves.shape[1] != count:
            raise RunError(
                f"the model separates {waves.shape[1]} speakers, but the data set has {count} sources",
                remedy="change the number of speakers in [model.args] or in the data set",
            )
        return waves, spectrum

    def compare(self, wave: Tensor, spectrum: Tensor | None, clean: Tensor) -> Tensor:
        """Computes the loss of separated waveforms [batch, speakers, time] against the sources."""
        remedy = "use a loss that takes waveforms [batch, speakers, time], such as `pit_si_snr`"
        with translate_part_errors("the loss", wave, clean, remedy=remedy):
            return loss_value(self.loss_function, wave, clean)

    # ------------------------------------------------------------------------------- the modes

    def check_data(self, loaders: Mapping[Mode, Sequence[BatchLoader]]) -> None:
        """Compares the attributes `num_speakers` of the model and of the data sets.

        Raises:
            RunError: two numbers differ.
        """
        super().check_data(loaders)
        all_loaders = [loader for mode_loaders in loaders.values() for loader in mode_loaders]
        named = [pair for loader in all_loaders for pair in zip(loader.names, loader.datasets, strict=True)]
        parts = [("the model", unwrapped(self.model)), *named]
        counts = [(name, getattr(part, "num_speakers", None)) for name, part in parts]
        declared = [(name, count) for name, count in counts if isinstance(count, int)]
        for name, count in declared:
            if count != declared[0][1]:
                raise RunError(
                    f"{declared[0][0]} is for {declared[0][1]} speakers, but {name} is for {count}",
                    remedy="set the same `num_speakers` in [model.args] and for each data set",
                )

    def prepare_batch(self, batch: Any, mode: Mode) -> dict[str, Any]:
        """Checks the batch, and joins `source_1`, `source_2`, … to `source` [batch, speakers, time]."""
        keys = batch if isinstance(batch, Mapping) else ()
        numbers = [int(match[1]) for key in keys if (match := _SOURCE.fullmatch(str(key)))]
        names = [f"source_{number}" for number in range(1, max(numbers, default=1) + 1)]
        checked = enhancement_batch(batch, mode, sr=self.sr, wait=self._reads_rates(mode), targets=names)
        sources = [checked.pop(name) for name in names if name in checked]
        for name in names:
            checked.pop(f"{name}_length", None)
        return checked | ({self.target: torch.stack(sources, dim=1)} if len(sources) == len(names) else {})

    def signals(self, file: Mapping[str, Any], wave: Tensor | None) -> dict[str, Tensor]:
        """Returns mixture, estimates and sources [speakers, time]. The estimates are in the order of the sources."""
        signals = super().signals(file, wave)
        separated, sources = signals.get("separated"), signals.get(self.target)
        if separated is not None and sources is not None:
            ratios = pairwise_si_snr(separated.unsqueeze(0), sources.unsqueeze(0))
            signals["separated"] = reordered(separated, best_permutation(ratios[0])[1])
        speakers = sources if separated is None else separated
        if speakers is not None:
            signals["mixture"] = signals["mixture"].expand_as(speakers)
        return signals

    def audio(self, signals: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Returns `mixture`, `separated_1`, `separated_2`, … and `source_1`, `source_2`, …, each [time]."""
        waves = {"mixture": signals["mixture"][0]}
        for kind in ("separated", self.target):
            waves |= {f"{kind}_{number}": wave for number, wave in enumerate(signals.get(kind, ()), start=1)}
        return waves

    def predicted(self, signals: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Returns the waves of the speakers, with the keys `_1`, `_2`, …."""
        return {f"_{number}": wave for number, wave in enumerate(signals["separated"], start=1)}

    def align(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Returns the speakers of the chunk `later` in the order of the chunk before, whose end is `earlier`."""
        ratios = pairwise_si_snr(later[..., : earlier.shape[-1]], earlier)
        return reordered(later, best_permutation(ratios)[1])
