"""Prefixes of wrappers are never in a checkpoint, and wrapped and plain networks load each other's checkpoints."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from audiozen_core.errors import CheckpointError
from audiozen_core.trainer.module_state import ModuleState, unwrapped
from tests.tiny_experiment import TinyExperiment


def compiled(module):
    return torch.compile(module, backend="eager")


class Fsdp(nn.Module):
    """Has its module under the name that FullyShardedDataParallel uses."""

    def __init__(self, module):
        super().__init__()
        self._fsdp_wrapped_module = module

    def forward(self, x):
        return self._fsdp_wrapped_module(x)


class HasModule(nn.Module):
    """A network with a child that is really called `module`."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(4, 3)

    def forward(self, x):
        return self.module(x)


def net(inner=lambda module: module, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(inner(nn.Linear(4, 3)), nn.BatchNorm1d(3), nn.Sequential(inner(nn.Linear(3, 1))))


def same(one, other):
    """Compares on the CPU, because DataParallel moves its network to a GPU if there is one."""
    return torch.equal(one.cpu(), other.cpu())


WRAPPED = {
    "compiled": lambda seed: compiled(net(seed=seed)),
    "DataParallel": lambda seed: nn.DataParallel(net(seed=seed)),
    "FSDP": lambda seed: Fsdp(net(seed=seed)),
    "both": lambda seed: compiled(nn.DataParallel(net(seed=seed))),
    "compiled within": lambda seed: net(compiled, seed),
    "all": lambda seed: nn.DataParallel(compiled(net(lambda part: Fsdp(nn.DataParallel(compiled(part))), seed))),
    "checkpointed": lambda seed: net(checkpoint_wrapper, seed),
}


@pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED)
def test_state_of_a_wrapped_network_is_that_of_the_plain_one(make):
    plain, wrapped = ModuleState(net(seed=0)), ModuleState(make(0))
    assert list(wrapped.state_dict()) == list(plain.state_dict())
    assert all(same(wrapped.state_dict()[name], value) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED)
def test_wrapped_and_plain_networks_load_each_other(make):
    plain, wrapped = ModuleState(net(seed=0)), ModuleState(make(1))
    before = {name: value.clone() for name, value in wrapped.state_dict().items()}
    assert not same(before["0.weight"], plain.state_dict()["0.weight"])
    wrapped.load_state_dict(plain.state_dict())
    assert same(wrapped.state_dict()["0.weight"], plain.state_dict()["0.weight"])
    plain.load_state_dict(before)
    assert all(same(value, before[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED)
def test_plain_network_loads_a_foreign_state_with_prefixes(make):
    plain, foreign = net(seed=0), make(1)
    ModuleState(plain).load_state_dict(foreign.state_dict())
    assert same(plain[0].weight, ModuleState(foreign).state_dict()["0.weight"])


def test_real_child_called_module_keeps_its_name():
    assert list(ModuleState(HasModule()).state_dict()) == ["module.weight", "module.bias"]
    for wrapper in (compiled, nn.DataParallel, Fsdp):
        wrapped = ModuleState(wrapper(HasModule()))
        assert list(wrapped.state_dict()) == ["module.weight", "module.bias"]
        target = HasModule()
        ModuleState(target).load_state_dict(wrapped.state_dict())
        assert same(target.module.weight, wrapped.state_dict()["module.weight"])
        ModuleState(target).load_state_dict(wrapped.module.state_dict())  # with the prefix, as other toolkits save it


def test_state_that_does_not_fit_is_an_error():
    with pytest.raises(RuntimeError, match=r"Unexpected key.*module\.2\.weight"):
        ModuleState(nn.Linear(4, 3)).load_state_dict({"module.2.weight": torch.ones(1)})


def test_unwrapped_returns_the_network_itself():
    inner = HasModule()
    assert unwrapped(compiled(nn.DataParallel(inner))) is inner
    assert unwrapped(inner) is inner


@pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("saved", WRAPPED.values(), ids=WRAPPED)
def test_only_real_differences_are_named_whatever_is_wrapped(make, saved):
    weights = saved(0).state_dict()
    assert not ModuleState(make(0)).compare(weights)
    del weights[next(name for name in weights if name.endswith("running_mean"))]
    weights["extra"] = torch.ones(1)
    mismatch = ModuleState(make(0)).compare(weights)
    assert (mismatch.missing, mismatch.unexpected, mismatch.shapes) == (["1.running_mean"], ["extra"], {})


COMPILED = """
def compiled(bias: bool = True):
    return torch.compile(nn.Linear(4, 1, bias=bias), backend="eager")
"""


@pytest.mark.slow
def test_run_of_a_compiled_network_is_that_of_a_plain_one_and_each_continues_the_other(tmp_path):
    tiny = TinyExperiment(tmp_path, COMPILED)
    change = ('path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}', 'path = "parts.compiled"')
    states = {"plain": tiny.run(name="plain"), "compiled": tiny.run(change, name="compiled")}
    assert list(states["compiled"]["model"]) == ["weight", "bias"]
    for name, value in states["plain"]["model"].items():
        assert torch.equal(value, states["compiled"]["model"][name])
    longer = {"overrides": ["trainer.args.max_epochs=3"], "resume": True}
    more = tiny.run(name="plain", **longer), tiny.run(change, name="compiled", **longer)
    assert all(torch.equal(value, more[1]["model"][name]) for name, value in more[0]["model"].items())
    for own, other, changes in (("plain", "compiled", ()), ("compiled", "plain", (change,))):
        path = str(tmp_path / "exp" / other / "checkpoints" / "latest")
        tiny.run(*changes, name=own, modes=("test",), ckpt_path=path)
        tuned = tiny.run(*changes, name=f"{own}_tuned", modes=("finetune",), ckpt_path=path)
        assert list(tuned["model"]) == ["weight", "bias"]


def test_resume_and_finetuning_of_another_compiled_network_name_the_difference(tmp_path):
    tiny = TinyExperiment(tmp_path, COMPILED)
    plain = 'path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}'
    tiny.run((plain, 'path = "parts.compiled"'))
    other = plain, 'path = "parts.compiled"\nargs.bias = false'
    with pytest.raises(CheckpointError, match="the checkpoint's `model` does not fit") as resumed:
        tiny.run(other, resume=True, allow_drift=True)
    path = str(tmp_path / "exp" / "tiny" / "checkpoints" / "latest")
    with pytest.raises(CheckpointError, match=r"do not fit \[model\]") as tuned:
        tiny.run(other, name="tuned", modes=("finetune",), ckpt_path=path)
    for caught in (resumed, tuned):
        assert caught.value.notes[0] == "note: only the checkpoint has 1 weight: `bias`"
        assert caught.value.remedy.startswith("the network has fewer layers")


class Numbers(nn.Module):
    """Has an entry of each dtype."""

    def __init__(self, *dtypes):
        super().__init__()
        for dtype in dtypes:
            self.register_buffer(name_of(dtype), torch.ones(1, dtype=dtype))


def name_of(dtype):
    return f"of_{word(dtype)}"


def word(dtype):
    return str(dtype).removeprefix("torch.")


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize(
    ("saved", "wanted", "fits"),
    [
        *[(saved, wanted, True) for saved in FLOATS for wanted in FLOATS],
        (torch.int32, torch.int64, True),
        (torch.uint8, torch.int16, True),
        (torch.complex64, torch.complex128, True),
        (torch.bool, torch.bool, True),
        (torch.int8, torch.float32, False),
        (torch.int64, torch.float16, False),
        (torch.bool, torch.float32, False),
        (torch.float32, torch.int64, False),
        (torch.float32, torch.bool, False),
        (torch.int64, torch.int32, False),
        (torch.int8, torch.uint8, False),
        (torch.uint8, torch.bool, False),
        (torch.complex64, torch.float32, False),
    ],
    ids=word,
)
def test_numbers_of_another_kind_are_refused_with_both_dtypes(saved, wanted, fits):
    module = Numbers(wanted)
    state = ModuleState(module)
    weights = {name_of(wanted): torch.zeros(1, dtype=saved)}
    if fits:
        state.load_state_dict(weights)
        assert not getattr(module, name_of(wanted)).any()
        return
    with pytest.raises(RuntimeError, match=f"`{name_of(wanted)}`: {word(saved)} and {word(wanted)}$"):
        state.load_state_dict(weights)
    assert getattr(module, name_of(wanted)).all(), "it has been loaded"


def test_weight_with_and_without_a_prefix_is_refused_with_both_names():
    plain = net()
    weights = dict(plain.state_dict())
    weights["module.0.weight"] = torch.zeros(3, 4)
    with pytest.raises(RuntimeError, match=r"1 weight under two names: `0\.weight` and `module\.0\.weight`"):
        ModuleState(plain).load_state_dict(weights)
    assert plain[0].weight.any()
    # Each of the two alone is loaded.
    del weights["0.weight"]
    ModuleState(plain).load_state_dict(weights)
    assert not plain[0].weight.any()


def test_lazy_weights_take_any_shape_but_not_any_kind():
    state = ModuleState(nn.LazyLinear(2))
    with pytest.raises(RuntimeError, match="`weight`: int8 and float32"):
        state.load_state_dict({"weight": torch.ones(2, 3, dtype=torch.int8), "bias": torch.ones(2)})
    state.load_state_dict({"weight": torch.ones(2, 3), "bias": torch.ones(2)})
    assert state.module.weight.shape == (2, 3)


@pytest.mark.parametrize(
    ("weights", "notes", "remedy"),
    [
        (
            {"weight": torch.ones(1, 4, dtype=torch.int8), "bias": torch.ones(1)},
            "with different kinds of numbers in the checkpoint and in the network: `weight`: int8 and float32",
            "if they are quantised",
        ),
        (
            {"weight": torch.ones(1, 4), "module.weight": torch.zeros(1, 4), "bias": torch.ones(1)},
            "under two names: `weight` and `module.weight`",
            "remove one of the two",
        ),
    ],
    ids=["integers", "twice"],
)
def test_file_of_weights_that_torch_would_load_in_its_own_way_is_an_error(tmp_path, weights, notes, remedy):
    tiny = TinyExperiment(tmp_path)
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"do not fit \[model\]") as caught:
        tiny.run(modes=("test",), ckpt_path=str(tmp_path / "weights.safetensors"))
    assert notes in caught.value.notes[0]
    assert remedy in caught.value.remedy
