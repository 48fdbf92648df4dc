"""Adversarial training: discriminators judge the output of an enhancement network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.binding.ranges import Natural, Positive, check_ranges
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.errors import RunError
from audiozen_core.kinds import TRAINING, Mode
from audiozen_core.scoring.chosen import as_finding
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.module_state import unwrapped
from audiozen_core.trainer.part_errors import translate_part_errors
from audiozen_plugins.loss.adversarial import AdversarialLoss, Judge, JudgedSignals
from audiozen_plugins.trainer.enhancement import EnhancementTrainer

GENERATOR = "g"


class AdversarialTrainer(EnhancementTrainer):
    """Trains an enhancement network (the generator) together with networks that judge its output (discriminators).

    `[model_g]` is the generator. It is validated and tested like the network of the trainer `enhancement`, and this
    trainer takes the same arguments. Every other network, such as `[model_d]`, is a discriminator. A discriminator is
    called with waveforms [batch, time] and returns scores [batch, …]. If it has several parts, it returns a list with
    one list for each part: the features of the part, and at the end its scores. The loss of a discriminator, such as
    `[loss_function_d]`, is an `AdversarialLoss`. It defines both the loss that trains the discriminator, and the
    adversarial loss that this discriminator adds to the loss of the generator. Each network has its own optimiser, and
    may have a scheduler.

    The loss of the generator is the sum of its own loss `[loss_function_g]`, which is optional, and the adversarial
    loss of each discriminator, times the `weight` of that loss. The loss of the generator changes only the weights of
    the generator, and the loss of a discriminator changes only the weights of this discriminator. The terms of the sum
    are recorded as `train/own_loss_g` and `train/adversarial_<suffix>`.

    Args:
        components: the components to work with; passed by AudioZEN.
        discriminator_steps: the number of optimiser steps that train the discriminators before each step that trains
            the generator. By default, each step trains all networks, with the same output of the generator.
        warmup_epochs: the number of epochs at the start that train only the generator, with its own loss only.

    Raises:
        RunError: the generator or a discriminator is missing, a network has no optimiser, a discriminator has no
            `AdversarialLoss`, or `warmup_epochs` is set without `[loss_function_g]`.
    """

    suffix: ClassVar[str] = GENERATOR

    def __init__(
        self,
        components: Components,
        *,
        discriminator_steps: Positive | None = None,
        warmup_epochs: Natural = 0,
        **kwargs: Any,
    ) -> None:
        check_ranges(AdversarialTrainer, locals())
        losses = {suffix: unwrapped_type(loss) for suffix, loss in components.loss_functions.items()}
        # A test needs no optimisers.
        optimizers = components.optimizers or components.models
        models = components.models
        # Inference needs neither discriminators nor losses.
        used_only = components.only_enhances and GENERATOR in models
        for error in () if used_only else _part_errors(models, losses, optimizers, warmup_epochs):
            raise error
        super().__init__(components, **kwargs)
        self.discriminator_steps = discriminator_steps
        self.warmup_epochs = warmup_epochs

    @classmethod
    def check_settings(
        cls,
        args: Mapping[str, Any],
        *,
        acoustics: Acoustics,
        dataset_names: Mapping[Mode, Sequence[str]],
        models: Mapping[str, Any] = MappingProxyType({}),
        loss_functions: Mapping[str, Any] = MappingProxyType({}),
        optimizers: Mapping[str, Any] = MappingProxyType({}),
        modes: Sequence[str] = (),
    ) -> Iterator[Diagnostic]:
        """Yields the mistakes that `audiozen check` can find, such as a network without an optimiser or a loss."""
        yield from super().check_settings(args, acoustics=acoustics, dataset_names=dataset_names, models=models)
        if not modes and GENERATOR in models:  # inference only
            return
        trains = bool(set(modes) & set(TRAINING))
        losses = {suffix: loss if isinstance(loss, type) else None for suffix, loss in loss_functions.items()}
        for error in _part_errors(models, losses, optimizers if trains else models, args.get("warmup_epochs", 0)):
            yield as_finding(error, config_codes.NO_PARTNER, ("path",))

    @property
    def model(self) -> nn.Module:
        """The generator."""
        return self.models[GENERATOR]

    @property
    def loss_function(self) -> Callable[..., Any]:
        """The generator's own loss."""
        return self.loss_functions[GENERATOR]

    @property
    def own_loss(self) -> Callable[..., Any] | None:
        """The generator's own loss; None if it has none."""
        return self.loss_functions.get(GENERATOR)

    def file_loss(self, file: Mapping[str, Any], wave: Tensor, spectrum: Tensor | None) -> Tensor | None:
        """Computes the generator's own loss of one file; None if it has none."""
        return super().file_loss(file, wave, spectrum) if self.own_loss else None

    def training_step(self, batch: Any, batch_idx: int) -> Mapping[str, Tensor]:
        """Returns the losses of the networks that the present step trains."""
        trains_generator, trains_discriminators = self.turn
        with torch.set_grad_enabled(trains_generator):
            wave, spectrum = self.enhance_batch(batch)
        results: dict[str, Tensor] = {}
        if trains_generator:
            terms = []
            if self.own_loss:
                terms.append(self.compare(wave, spectrum, batch["clean"]))
                results["own_loss_g"] = terms[0].detach()
            signals = JudgedSignals(wave, batch["clean"], batch["noisy"], self.sr)
            for suffix in self.discriminators if not self.warms_up else ():
                loss = self.adversarial_loss(suffix)
                value = loss.generator_loss(self._judge(suffix), signals)
                results[f"adversarial_{suffix}"] = value.detach()
                terms.append(loss.weight * value)
            results["loss_g"] = torch.stack(terms).sum()
        if trains_discriminators:
            signals = JudgedSignals(wave.detach(), batch["clean"], batch["noisy"], self.sr)
            for suffix in self.discriminators:
                loss = self.adversarial_loss(suffix)
                results[f"loss_{suffix}"] = loss.discriminator_loss(self._judge(suffix), signals)
        return results

    @property
    def turn(self) -> tuple[bool, bool]:
        """Whether the present step trains the generator, and whether it trains the discriminators."""
        if self.warms_up:
            return True, False
        if self.discriminator_steps is None:
            return True, True
        # All batches whose gradients are accumulated into one step train the same networks.
        place = self.progress.step % (self.discriminator_steps + 1)
        return place == self.discriminator_steps, place < self.discriminator_steps

    @property
    def warms_up(self) -> bool:
        """Whether the present epoch trains only the generator, with its own loss only."""
        return self.progress.epoch < self.warmup_epochs

    @property
    def waiting_networks(self) -> list[str]:
        """The networks that may get no gradient in the present epoch."""
        if self.warms_up:
            return self.discriminators
        return list(self.models) if self.discriminator_steps else []

    @property
    def discriminators(self) -> list[str]:
        """The suffixes of the discriminators."""
        return [suffix for suffix in self.models if suffix != GENERATOR]

    def adversarial_loss(self, suffix: str) -> AdversarialLoss:
        """Returns the loss of a discriminator."""
        return cast(AdversarialLoss, unwrapped(cast(nn.Module, self.loss_functions[suffix])))

    def _judge(self, suffix: str) -> Judge:
        remedy = (
            f"`{type(self.adversarial_loss(suffix)).__name__}` of [loss_function_{suffix}] calls the discriminator "
            "with waveforms [batch, time]; use a network that takes them"
        )

        def judge(*waves: Tensor) -> list[list[Tensor]]:
            with translate_part_errors(f"[model_{suffix}]", *waves, remedy=remedy):
                return _judgements(suffix, self.models[suffix](*waves))

        return judge


def unwrapped_type(loss: Any) -> type:
    """Returns the class of a loss, without wrappers such as the wrapper of `torch.compile`."""
    return type(unwrapped(loss) if isinstance(loss, nn.Module) else loss)


def _judgements(suffix: str, output: Any) -> list[list[Tensor]]:
    """Returns the output of a discriminator as lists of features and scores, in full precision."""
    parts = [[output]] if isinstance(output, Tensor) else output
    has_parts = isinstance(parts, list | tuple) and bool(parts)
    if not has_parts or not all(
        isinstance(part, list | tuple) and part and all(isinstance(tensor, Tensor) and tensor.ndim for tensor in part)
        for part in parts
    ):
        raise RunError(
            f"the discriminator [model_{suffix}] returns a {type(output).__name__} that is not a judgement",
            remedy="return a tensor of scores [batch, …], or a list with a list of tensors for each part of the "
            "network: its features, and at the end its scores",
        )
    return [[tensor.float() for tensor in part] for part in parts]


def _part_errors(
    models: Mapping[str, Any], losses: Mapping[str, type | None], optimizers: Mapping[str, Any], warmup_epochs: Any
) -> Iterator[RunError]:
    """Yields an error for each missing network, optimiser or loss. A loss of None is not checked."""
    if GENERATOR not in models:
        yield RunError(
            "the trainer `adversarial` needs a section [model_g] with the enhancement network",
            remedy="give [model] and its [loss_function] and [optimizer] the suffix `g`, as in [model_g]",
        )
        return
    discriminators = [suffix for suffix in models if suffix != GENERATOR]
    if not discriminators:
        yield RunError(
            "the trainer `adversarial` needs a discriminator, such as [model_d], in addition to [model_g]",
            remedy='add [model_d], [loss_function_d] and [optimizer_d], or use `path = "enhancement"`',
        )
    for suffix in models:
        if suffix not in optimizers:
            what = "the generator" if suffix == GENERATOR else "the discriminator"
            yield RunError(
                f"{what} [model_{suffix}] has no optimiser, so it would not be trained",
                remedy=f"add a section [optimizer_{suffix}]",
            )
    for suffix in discriminators:
        loss = losses.get(suffix, object)
        if loss is not None and not issubclass(loss, AdversarialLoss):
            has = f"has the loss `{loss.__name__}`" if suffix in losses else "has no loss"
            yield RunError(
                f"the discriminator [model_{suffix}] {has}; it needs an adversarial loss",
                remedy=f"name `least_squares_gan`, `hinge_gan`, `metric_gan` or a subclass of "
                f"`audiozen.loss.AdversarialLoss` in [loss_function_{suffix}]",
            )
    if isinstance(warmup_epochs, int) and warmup_epochs and GENERATOR not in losses:
        yield RunError(
            f"`warmup_epochs` is {warmup_epochs}, but the generator has no loss of its own for these epochs",
            remedy="add a section [loss_function_g], or leave `warmup_epochs` out",
        )
