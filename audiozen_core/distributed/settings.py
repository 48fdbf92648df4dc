"""The section `[distributed]`. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from audiozen_core.binding.ranges import Positive, Range
from audiozen_core.binding.settings import setting


@dataclass(frozen=True, slots=True)
class Distributed:
    """The section `[distributed]`. It has an effect only in a run of several processes."""

    strategy: Literal["data_parallel", "fully_sharded"] = setting(
        "`data_parallel`: each process has all weights; `fully_sharded`: each keeps a share of the weights, of their "
        "gradients and of the state of the optimisers, for models that need too much memory",
        default="data_parallel",
    )
    shard_classes: list[str] = setting(
        "for `fully_sharded`, the classes of the modules whose weights are gathered together, such as "
        '`["TransformerEncoderLayer"]`; by default the children of `nn.ModuleList`, `nn.ModuleDict` and '
        "`nn.Sequential`",
        default_factory=list,
    )
    forward_methods: list[str] = setting(
        "for `fully_sharded`, the methods of networks, besides `forward`, that the trainer calls", default_factory=list
    )
    timeout: Annotated[float, Range(least=1, most=86_400)] = setting(
        "the seconds that a process waits for the others before the run ends", default=600.0
    )
    bucket_cap_mb: Positive = setting("the size of the pieces in which gradients are sent, in MiB", default=25)
    static_graph: bool = setting(
        "whether every step computes the same graph; gradients may then be sent a little earlier", default=False
    )
    find_unused_parameters: bool = setting(
        "whether a step may leave weights unused; false saves a search through the graph of each step", default=True
    )
    sync_batch_norm: bool = setting(
        "whether batch normalisation uses the statistics of all processes; needs GPUs", default=False
    )
