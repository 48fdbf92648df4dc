"""Runs `audiozen` as one of several ranks that share a GPU, which only these tests allow.

NCCL refuses a second process on a GPU of the same machine. Each rank therefore says that it is a machine of its own:
NCCL then connects them by sockets, as it does between machines.

AudioZEN shards networks with two methods that torch has from 2.13 on, and refuses older versions. The networks of these
tests need the first method not at all, and only the outcome of the second.
"""

import os

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._fully_shard._fsdp_common import TrainingState

from audiozen_core.cli.main import main
from audiozen_core.distributed import join


def _reset_iter_state(root):
    """Lets the next step begin as the first did."""
    torch.cuda.synchronize()
    for unit in root.modules():
        if isinstance(unit, FSDPModule):
            unit.reshard()
            state = unit._get_fsdp_state()
            state._training_state = TrainingState.IDLE
            if group := state._fsdp_param_group:
                group._training_state = TrainingState.IDLE
                group._post_forward_indices.clear()
            state._comm_ctx.post_forward_order.clear()
            state._state_ctx.iter_forward_root = None


if __name__ == "__main__":
    os.environ["NCCL_HOSTID"] = f"machine{os.environ['RANK']}"
    join._check_gpus = lambda ranks: None
    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        FSDPModule.set_reduce_scatter_unused_params = lambda unit, reduced: None
        FSDPModule.reset_iter_state = _reset_iter_state
    main()
