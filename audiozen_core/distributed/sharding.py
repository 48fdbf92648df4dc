"""Shards the weights of networks over the ranks with torch's `fully_shard` (FSDP2).

Outside of calls, the weights of a sharded network are `DTensor`s, and each rank keeps a part of each weight. A call
gathers the weights of one unit after another, such as a layer, and frees them afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from audiozen_core.distributed.ranks import Ranks
from audiozen_core.distributed.settings import Distributed
from audiozen_core.errors import AudioZenError, BuildError

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
# A unit with a smaller share of the weights than the first number is not worth a separate message. A unit with a larger
# share than the second number needs almost as much memory as gathering the whole network.
_SMALLEST, _LARGEST = 0.01, 0.5


def shard(module: nn.Module, what: str, ranks: Ranks, settings: Distributed, device: torch.device) -> None:
    """Shards the weights of a network over the ranks, in place. All ranks must call this function.

    Before that, the weights of rank 0 are copied to all ranks.

    Args:
        module: the network, without wrappers. Its weights are moved to the device.
        what: the network in messages, such as `[model]`.
        ranks: the processes of the run.
        settings: the section `[distributed]`.
        device: the device of the run.

    Raises:
        BuildError: the network can't be sharded.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise BuildError(f"{what} can't be sharded by torch {torch.__version__}", remedy=_NEWER)
    _check_weights(module, what)
    units = [*_units(module, settings.shard_classes), module]
    for weight in module.parameters():
        ranks.share_tensors([weight.detach()])  # one weight at a time, because sharing copies it
    mesh = init_device_mesh(device.type, (ranks.size,))
    try:
        for unit in units:
            # The weights are freed after each call, even the weights of the network itself. So no code can read
            # outdated weights, and all code outside of calls sees the same weights.
            nn.Module.register_forward_hook(unit, _copy_views)
            sharded = fully_shard(unit, mesh=mesh, reshard_after_forward=True)
            # Otherwise ranks that use different weights would add up gradients of different weights.
            sharded.set_reduce_scatter_unused_params(True)
    except AudioZenError:
        raise
    except Exception as error:
        raise BuildError.caused_by(error, f"{what} can't be sharded:", remedy=_REMEDY) from error
    for name in settings.forward_methods:
        if hasattr(module, name):
            register_fsdp_forward_method(module, name)


def check_sharing(modules: Mapping[str, nn.Module]) -> None:
    """Checks that no weight belongs to two networks or trained losses.

    Raises:
        BuildError: two networks or losses share a weight.
    """
    owners: dict[int, tuple[str, str]] = {}
    for section, module in modules.items():
        for name, weight in module.named_parameters():
            other, other_name = owners.setdefault(id(weight), (section, name))
            if other != section:
                raise BuildError(
                    f"[{section}] can't be sharded: its weight `{name}` is also `{other_name}` of [{other}]",
                    remedy=f"let only one of them have it; {_REMEDY}",
                )


def check_methods(modules: Collection[nn.Module], settings: Distributed) -> None:
    """Checks that each of `forward_methods` is a method of a network.

    Raises:
        BuildError: no network has a method of that name.
    """
    for name in settings.forward_methods:
        if not any(callable(getattr(module, name, None)) for module in modules):
            raise BuildError(
                f"no network has the method `{name}`, which `forward_methods` of [distributed] names",
                remedy="correct its name, or remove it",
            )


_NEWER = 'install torch 2.13, or train with `strategy = "data_parallel"` in [distributed]'
_REMEDY = 'or train with `strategy = "data_parallel"` in [distributed]'


def _check_weights(module: nn.Module, what: str) -> None:
    trained = next((weight for weight in module.parameters() if weight.requires_grad), None)
    for name, weight in module.named_parameters():
        if reason := _refusal(weight, trained):
            raise BuildError(
                f"{what} can't be sharded: its weight `{name}` {reason[0]}", remedy=f"{reason[1]}; {_REMEDY}"
            )
    for name, part in module.named_modules():
        if getattr(part, "sparse", False) is True and next(part.parameters(recurse=False), None) is not None:
            raise BuildError(
                f"{what} can't be sharded: `{name}` makes sparse gradients",
                remedy=f"set `sparse = false` in it; {_REMEDY}",
            )


def _refusal(weight: Tensor, trained: Tensor | None) -> tuple[str, str] | None:
    """Returns why a weight can't be sharded, and what to do; None if the weight can be sharded."""
    lazy: bool = is_lazy(weight)
    if lazy:
        return "has no shape yet", "build the module with its sizes instead of lazily"
    if weight.dim() == 0:
        return "has no dimension to be split", "give it the shape [1]"
    if not weight.is_contiguous():
        return "is not contiguous", "make it `contiguous()`"
    if weight.requires_grad and trained is not None and weight.dtype != trained.dtype:
        return f"is of {weight.dtype}, but others of {trained.dtype}", "give all of them one type"
    return None


def _copy_views(module: nn.Module, args: Any, output: Any) -> Any:
    """Replaces views in the output of a unit by copies. This is a forward hook.

    FSDP registers a hook on the output to detect that the backward pass has reached the unit. If the output is a view
    and the network changes it in place, as in `x += y`, FSDP's hook is not called.
    """
    if isinstance(output, Tensor):
        return output.clone() if output.requires_grad and output._is_view() else output
    if type(output) in (list, tuple):
        return type(output)(_copy_views(module, args, part) for part in output)
    if type(output) is dict:
        return {name: _copy_views(module, args, part) for name, part in output.items()}
    return output


def _units(module: nn.Module, classes: Collection[str]) -> list[nn.Module]:
    """Returns the modules within a network whose weights are gathered together; inner modules come first."""
    if classes:
        chosen = [part for part in module.modules() if part is not module and type(part).__name__ in classes]
    else:
        chosen = list(_children_of_containers(module, sum(weight.numel() for weight in module.parameters())))
    # A weight that two modules share must be in a single unit, so it belongs to the unit of the network.
    return [part for part in reversed(chosen) if _is_closed(part, module)]


def _children_of_containers(module: nn.Module, total: int) -> Iterator[nn.Module]:
    for child in module.children():
        size = sum(weight.numel() for weight in child.parameters())
        is_listed = isinstance(module, _CONTAINERS) and not isinstance(child, nn.ModuleList | nn.ModuleDict)
        if is_listed and _SMALLEST * total <= size <= _LARGEST * total and size:
            yield child
        else:
            yield from _children_of_containers(child, total)


def _is_closed(part: nn.Module, module: nn.Module) -> bool:
    inside = set(part.modules())
    outside = {id(weight) for other in set(module.modules()) - inside for weight in other.parameters(recurse=False)}
    return outside.isdisjoint(map(id, part.parameters()))


# ------------------------------------------------------------------------------- sharded modules


def sharded_units(modules: Iterable[nn.Module]) -> list[Any]:
    """Returns the modules whose weights are gathered together; empty if nothing is sharded."""
    return [part for module in modules for part in module.modules() if hasattr(part, "set_reshard_after_forward")]


@contextmanager
def whole_weights(modules: Collection[nn.Module]) -> Iterator[None]:
    """Gives each rank the whole weights within the block, so that it can call networks without the other ranks.

    The block must not change the weights. All ranks must enter and leave the block together.
    """
    units = sharded_units(modules)
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()
            unit.set_reshard_after_forward(True, recurse=False)
        forget_calls(modules)


def forget_calls(modules: Collection[nn.Module]) -> None:
    """Forgets calls without a backward pass. Ranks with different calls in memory would gather different weights."""
    for module in modules:
        for unit in sharded_units([module])[:1]:
            # A network that has never been called, such as a discriminator in a test, has no such state yet.
            if unit._get_fsdp_state()._is_root is not None:
                unit.reset_iter_state()


# ------------------------------------------------------------------------------- sharded tensors


def is_sharded(tensor: Tensor) -> bool:
    """Returns whether each rank has only a part of a tensor."""
    return hasattr(tensor, "full_tensor")


def local_part(tensor: Tensor) -> Tensor:
    """Returns the part of a tensor that this rank keeps. Without sharding, this is the whole tensor."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return part


def whole_tensor(tensor: Tensor) -> Tensor:
    """Returns a sharded tensor as an ordinary tensor. All ranks must call this function."""
    whole: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return whole.detach()


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Shards a tensor in the same way as `like`. Returns the tensor unchanged if `like` is not sharded.

    Args:
        tensor: a tensor that is the same on all ranks, on any device.
        like: the tensor whose shape, shards and device to use.
    """
    if not is_sharded(like) or is_sharded(tensor) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    mesh, placements = like.device_mesh, like.placements
    whole = distribute_tensor(tensor.detach(), mesh, placements, src_data_rank=None)
    # A clone, because the part may be a view that keeps the whole tensor in memory.
    part = whole.to_local().detach().clone().to(like.device)
    sharded: Tensor = DTensor.from_local(
        part, mesh, placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return sharded


def whole_norms(norms: Tensor, ranks: int) -> Tensor:
    """Computes the norms of whole tensors from the norms of the parts on each rank. All ranks must call this function.

    The results are the same on all ranks, to the last bit.

    Args:
        norms: the norms of the parts on this rank [tensors].
        ranks: the number of ranks.
    """
    import torch.distributed as dist

    every = norms.new_empty((ranks, len(norms)))
    dist.all_gather(list(every.unbind()), norms.contiguous())
    whole: Tensor = torch.linalg.vector_norm(every, dim=0)
    return whole
