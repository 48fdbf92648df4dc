from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from audiozen_core.binding.arguments import build, check_arguments
from audiozen_core.binding.signature import signature_of
from tests.core.binding.targets import Anything, Codec, Encoder, Named, Net


def test_build_passes_only_injected_values_that_the_signature_takes():
    model = nn.Linear(2, 2)
    injected = {"params": model.parameters(), "section": "optimizer"}
    optimizer = build(torch.optim.RAdam, {"lr": 0.5}, injected)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert len(optimizer.param_groups[0]["params"]) == 2


def test_build_passes_all_injected_values_to_a_target_with_kwargs():
    assert build(lambda **given: given, {"a": 1}, {"b": 2}) == {"a": 1, "b": 2}


def test_build_passes_injected_values_that_the_parent_takes():
    assert build(Anything, {"max_epochs": 3}, {"components": "all", "other": 1}).given == ("all", 3, None)


def test_build_passes_injected_values_by_position():
    def scale(factor, /, offset):
        return factor * 10 + offset

    assert build(scale, {"offset": 1}, {"factor": 2}) == 21


def test_build_converts_values_to_the_annotated_types():
    def take(root: Path, sizes: tuple[int, ...], kinds: set[str], codec: Codec, plain: str | Path, more=None):
        return root, sizes, kinds, codec, plain, more

    args = {
        "root": "data/x",
        "sizes": [1, 2],
        "kinds": ["a", "a"],
        "codec": {"encoder": {"size": 1}, "layers": [{"size": 2}]},
        "plain": "text",
        "more": [1, 2],
    }
    codec = Codec(Encoder(1), [Encoder(2)])
    assert build(take, args) == (Path("data/x"), (1, 2), {"a"}, codec, "text", [1, 2])


def test_build_does_not_catch_exceptions_of_the_target():
    with pytest.raises(ZeroDivisionError):
        build(lambda x: 1 / x, {"x": 0})


@pytest.mark.parametrize(
    ("target", "args"),
    [(Net, {"width": 3, "depth": 1}), (Named, {"components": 1, "max_epochs": 2}), (Codec, {"encoder": {"size": 2}})],
)
def test_target_can_be_built_if_there_are_no_findings(target, args):
    assert check_arguments(signature_of(target), args) == []
    build(target, args)
