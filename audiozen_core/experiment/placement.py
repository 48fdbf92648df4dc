"""Moves the weights of an experiment to the device, or shards them over the devices of all ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from audiozen_core.config.sections import Component
from audiozen_core.distributed.ranks import Ranks
from audiozen_core.distributed.settings import Distributed
from audiozen_core.distributed.sharding import check_methods, check_sharing, shard
from audiozen_core.errors import AudioZenError, BuildError
from audiozen_core.kinds import section_name
from audiozen_core.trainer.module_state import unwrapped


def with_synchronised_norms(model: nn.Module, settings: Distributed, ranks: Ranks, device: torch.device) -> nn.Module:
    """Returns a network whose batch normalisation uses the statistics of all ranks, if `sync_batch_norm` is set.

    Raises:
        BuildError: the run trains on CPUs, where torch has no synchronised batch normalisation.
    """
    if not ranks.several or not settings.sync_batch_norm:
        return model
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if device.type == "cpu" and any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        raise BuildError(
            "`sync_batch_norm = true` of [distributed] needs GPUs, and this run trains on CPUs",
            remedy="remove it: each process then normalises its own batches",
        )
    return model


def shard_components(
    models: Mapping[str, nn.Module],
    losses: Mapping[str, Any],
    trained_losses: dict[str, list[nn.Parameter]],
    settings: Distributed,
    ranks: Ranks,
    device: torch.device,
) -> None:
    """Shards the weights of networks and trained losses over the ranks, in place: `strategy = "fully_sharded"`.

    All ranks must call it.

    Args:
        models: the networks by suffix.
        losses: the loss functions by suffix. Losses that are not trained do not change.
        trained_losses: the trained weights of each loss function, by suffix. This function replaces these weights with
            the sharded weights.
        settings: the section `[distributed]`.
        ranks: the processes of the run.
        device: the device of the run.

    Raises:
        BuildError: a network or a loss can't be sharded.
    """
    modules = {section_name("model", suffix): model for suffix, model in models.items()}
    trained = [suffix for suffix, weights in trained_losses.items() if weights]
    modules |= {section_name("loss_function", suffix): losses[suffix] for suffix in trained}
    check_sharing(modules)
    check_methods(models.values(), settings)
    for section, module in modules.items():
        shard(unwrapped(module), f"[{section}]", ranks, settings, device)
    for suffix in trained:
        trained_losses[suffix] = [weight for weight in losses[suffix].parameters() if weight.requires_grad]


def move_to_device(section: Component, part: Any, device: torch.device) -> Any:
    """Returns a component, and moves it to the device if it is a module.

    Raises:
        BuildError: the move fails, for example because the memory is full.
    """
    if not isinstance(part, nn.Module):  # a loss may be a plain function, such as `torch.nn.functional.mse_loss`
        return part
    try:
        return part.to(device)
    except AudioZenError:
        raise
    except Exception as error:
        what = f"{section.header} can't be moved to the device `{device}`: {type(part).__name__} raised"
        raise BuildError.caused_by(error, what) from error
