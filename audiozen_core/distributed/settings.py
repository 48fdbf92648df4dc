"""The section `[distributed]`. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from audiozen_core.binding.ranges import Positive, Range


def _setting(default: Any, doc: str, **rules: Any) -> Any:
    return field(default=default, metadata={"doc": doc, **rules})


@dataclass(frozen=True, slots=True)
class Distributed:
    """The section `[distributed]`. It has an effect only in a run of several processes."""

    strategy: Literal["data_parallel", "fully_sharded"] = _setting(
        "data_parallel",
        "`data_parallel`: each process has all weights; `fully_sharded`: each keeps a share of the weights, of their "
        "gradients and of the state of the optimisers, for models that need too much memory",
    )
    shard_classes: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "for `fully_sharded`, the classes of the modules whose weights are gathered together, such as "
            '`["TransformerEncoderLayer"]`; by default the children of `nn.ModuleList`, `nn.ModuleDict` and '
            "`nn.Sequential`"
        },
    )
    forward_methods: list[str] = field(
        default_factory=list,
        metadata={"doc": "for `fully_sharded`, the methods of networks, besides `forward`, that the trainer calls"},
    )
    timeout: Annotated[float, Range(least=1, most=86_400)] = _setting(
        600.0, "the seconds that a process waits for the others before the run ends"
    )
    bucket_cap_mb: Positive = _setting(25, "the size of the pieces in which gradients are sent, in MiB")
    static_graph: bool = _setting(
        False, "whether every step computes the same graph; gradients may then be sent a little earlier"
    )
    find_unused_parameters: bool = _setting(
        True, "whether a step may leave weights unused; false saves a search through the graph of each step"
    )
    sync_batch_norm: bool = _setting(
        False, "whether batch normalisation uses the statistics of all processes; needs GPUs"
    )
