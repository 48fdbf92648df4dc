"""Generative enhancement by flow matching: the flow leads from the noisy spectrum, plus noise, to the clean one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.binding.ranges import Natural, Positive, Range, check_ranges
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.errors import RunError
from audiozen_core.kinds import Mode
from audiozen_core.scoring.chosen import as_finding
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.module_state import unwrapped
from audiozen_core.trainer.part_errors import name_samples, translate_part_errors
from audiozen_plugins.loss.calls import domains_of, loss_value
from audiozen_plugins.trainer.domains import ModelDomain
from audiozen_plugins.trainer.enhancement import EnhancementTrainer
from audiozen_plugins.trainer.flow_sampling import Sampler, sample

DEFAULT_COMPRESSION = 0.5


class FlowTrainer(EnhancementTrainer):
    """Trains a network to estimate the velocity of a flow from noisy to clean spectra, and enhances by following it.

    Conditional flow matching (Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023) with paths from noisy
    to clean speech (Lee et al., "FlowSE: Flow Matching-based Speech Enhancement", ICASSP 2025). A state `x` is a
    complex STFT with compressed magnitudes, divided by the root mean square of the noisy STFT. Let `y` be the noisy
    spectrum, `s` the clean spectrum, and `z` noise whose real and imaginary parts have the variance 1/2. The state at
    the time `t` is

        x(t) = t s + (1 - t) (y + sigma z)

    and the network learns the velocity `s - y - sigma z`. The loss compares the velocities as real numbers, so it is
    usually `torch.nn.MSELoss`.

    The network is called as `model(state, noisy, time)`. `state` and `noisy` are spectra in the layout that `layout`
    names (see the trainer `enhancement`), such as [batch, 2, n_fft // 2 + 1, frames], and `time` is [batch]. It returns
    the velocity in the same layout. The model may declare the arguments `layout` and `compression`. The default of
    `compression` is 0.5.

    `sampling_seed` and the ID of a file determine the noise of the file and of its chunks. So the result does not
    depend on the order of the files, the batch size, or the number of processes.

    Args:
        components: the components to work with; passed by AudioZEN.
        sigma: the standard deviation of the added noise, relative to the noisy spectrum. With 0, no noise is added.
        sampler: how the velocity is followed. `euler` calls the network once in each step; `midpoint` and `heun` call
            it twice.
        sampling_steps: the number of steps in a test and a prediction.
        validation_sampling_steps: the number of steps in a validation.
        sampling_seed: the seed of the noise in all evaluations.

    Raises:
        RunError: an argument is out of range, or the loss compares something other than the output of the network.
    """

    resume_safe: ClassVar = ("sampling_steps",)

    def __init__(
        self,
        components: Components,
        *,
        sigma: Annotated[float, Range(least=0)] = 0.5,
        sampler: Sampler = "midpoint",
        sampling_steps: Positive = 5,
        validation_sampling_steps: Positive = 3,
        sampling_seed: Natural = 0,
        **kwargs: Any,
    ) -> None:
        check_ranges(FlowTrainer, locals())
        for error in _part_errors(components.models.get(""), components.loss_functions.get("")):
            raise error
        # These arguments of `enhancement` have only one possible value here, so a TOML file can't set them.
        super().__init__(components, domain="spectrum", add_channel=False, loss_domain="spectrum", **kwargs)
        if self.model_domain.compression is None:
            self.model_domain = replace(self.model_domain, compression=DEFAULT_COMPRESSION)
        self.sigma = sigma
        self.sampler: Sampler = sampler
        self.sampling_steps = sampling_steps
        self.validation_sampling_steps = validation_sampling_steps
        self.sampling_seed = sampling_seed
        self._steps = sampling_steps

    @classmethod
    def check_settings(
        cls,
        args: Mapping[str, Any],
        *,
        acoustics: Acoustics,
        dataset_names: Mapping[Mode, Sequence[str]],
        models: Mapping[str, Any] = MappingProxyType({}),
        loss_functions: Mapping[str, Any] = MappingProxyType({}),
    ) -> Iterator[Diagnostic]:
        """Yields the mistakes that `audiozen check` can find, such as a model or a loss of another domain."""
        errors = list(_part_errors(models.get(""), loss_functions.get("")))
        for error in errors:
            yield as_finding(error, config_codes.UNFIT, ("path",))
        if not errors:
            args = {**args, "domain": "spectrum"}
            found = super().check_settings(args, acoustics=acoustics, dataset_names=dataset_names, models=models)
            for finding in found:
                # The trainer `flow` sets the domain itself, so the TOML file has no place for this finding.
                yield replace(finding, place=("path",)) if finding.place == ("args", "domain") else finding

    def prepare_batch(self, batch: Any, mode: Mode) -> dict[str, Any]:
        """Checks the batch, and chooses the number of sampling steps for the mode."""
        self._steps = self.validation_sampling_steps if mode == "validate" else self.sampling_steps
        return super().prepare_batch(batch, mode)

    # ------------------------------------------------------------------------------- training

    def training_step(self, batch: Any, batch_idx: int) -> Mapping[str, Tensor]:
        """Returns the loss of the velocities of one batch, at random times."""
        with name_samples(batch):
            return {"loss": self.flow_loss(batch["noisy"], batch["clean"])}

    def flow_loss(self, noisy: Tensor, clean: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Computes the loss of the velocities of waveforms [batch, time].

        Args:
            noisy: the noisy waveforms.
            clean: the clean waveforms.
            generators: for each waveform, the generator (on the CPU) that draws its time and its noise; by default,
                torch's global generators draw them.
        """
        condition, scale = self._state(noisy)
        target = self._compressed(clean) / scale
        time = self._draw(torch.rand, (), noisy, generators)
        start = condition + self.sigma * self._noise(condition, generators)
        along = time[:, None, None]
        velocity = target - start
        state = along * target + (1 - along) * start
        estimate = torch.view_as_real(self.velocity(state, condition, time))
        wanted = torch.view_as_real(velocity)
        with translate_part_errors("the loss", estimate, wanted, remedy="use a loss such as torch.nn.MSELoss"):
            return loss_value(self.loss_function, estimate, wanted)

    def file_loss(self, file: Mapping[str, Any], wave: Tensor, spectrum: Tensor | None) -> Tensor | None:
        """Computes the loss of the velocity of one file. The ID of the file determines the time and the noise."""
        if not self.loss_functions:
            return None
        return self.flow_loss(file["noisy"], file["clean"], [self.generator_of(str(file["id"][0]))])

    # ------------------------------------------------------------------------------- enhancement

    def enhance_batch(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Enhances waveforms. The ID of each waveform determines its noise."""
        ids = batch.get("id")
        names = [str(one) for one in ids] if isinstance(ids, list | tuple) else [""] * len(batch["noisy"])
        with name_samples(batch):
            return self._enhance(batch["noisy"], names)

    def enhance(self, noisy: Tensor) -> tuple[Tensor, Tensor | None]:
        """Enhances waveforms [batch, time] without IDs. All of them get the same noise.

        Returns:
            Waveforms [batch, time], and their complex spectra [batch, n_fft // 2 + 1, frames].
        """
        return self._enhance(noisy, [""] * len(noisy))

    def _enhance(self, noisy: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        condition, scale = self._state(noisy)
        noise = self._noise(condition, [self.generator_of(name) for name in names])

        def velocity(state: Tensor, time: float) -> Tensor:
            return self.velocity(state, condition, torch.full((len(state),), time, device=state.device))

        state = sample(velocity, condition + self.sigma * noise, steps=self._steps, sampler=self.sampler)
        spectrum = self._of_spectra.from_model(state * scale)
        return self.istft(spectrum, length=noisy.shape[-1]), spectrum

    def velocity(self, state: Tensor, condition: Tensor, time: Tensor) -> Tensor:
        """Calls the network.

        Args:
            state: complex states [batch, n_fft // 2 + 1, frames].
            condition: the noisy spectra, also complex [batch, n_fft // 2 + 1, frames].
            time: the times [batch], from 0 to 1.

        Returns:
            The complex velocities, of the same shape.
        """
        form = ModelDomain("spectrum", self.model_domain.layout)
        given = form.to_model(state)
        return form.from_model(self._run_model(given, given.shape, form.to_model(condition), time))

    def generator_of(self, name: str) -> torch.Generator:
        """Returns the generator of the noise of a file, given its ID."""
        digest = hashlib.blake2b(f"{self.sampling_seed} {name}".encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)

    # ------------------------------------------------------------------------------- states

    @property
    def _of_spectra(self) -> ModelDomain:
        """The compression of complex spectra."""
        return ModelDomain("spectrum", "complex", self.model_domain.compression)

    def _compressed(self, wave: Tensor) -> Tensor:
        return self._of_spectra.to_model(self._spectrogram(wave))

    def _state(self, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the states of noisy waveforms, and the root mean squares [batch, 1, 1] by which they were divided."""
        spectrum = self._compressed(noisy)
        scale = spectrum.abs().square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-5)
        return spectrum / scale, scale

    def _noise(self, like: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
        parts = self._draw(torch.randn, (*like.shape[1:], 2), like, generators)
        return torch.view_as_complex(parts) / 2**0.5

    def _draw(
        self, draw: Any, shape: tuple[int, ...], like: Tensor, generators: Sequence[torch.Generator] | None
    ) -> Tensor:
        """Draws float32 numbers [batch, *shape] with the generator of each sample, or with torch's global generator."""
        if generators is None:
            drawn: Tensor = draw((len(like), *shape), device=like.device)
            return drawn
        return torch.stack([draw(shape, generator=generator) for generator in generators]).to(like.device)


def _part_errors(model: Any, loss: Any) -> Iterator[RunError]:
    """Yields the errors for a model or a loss of another domain. `model` and `loss` are objects, classes or None."""
    declared = getattr(unwrapped(model) if isinstance(model, nn.Module) else model, "domain", "spectrum")
    if declared != "spectrum":
        yield RunError(
            f"the trainer `flow` works on complex spectra, but the model declares `domain = {declared!r}`",
            remedy="use a model that is called with a state, a noisy spectrum and a time, such as `flow_net`",
        )
    if getattr(unwrapped(model) if isinstance(model, nn.Module) else model, "out_delay", 0):
        yield RunError(
            "the trainer `flow` can't remove the delay that the model declares as `out_delay`",
            remedy="use a model whose output is not delayed",
        )
    if domains_of(loss) != (None,):
        yield RunError(
            "the trainer `flow` compares velocities, but the loss in [loss_function] has a domain of its own",
            remedy='use a loss without a domain, such as `path = "torch.nn.MSELoss"`',
        )
