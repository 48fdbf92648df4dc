"""Weights that do not fit a network are explained in a few lines, with the likely cause."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiozen_core.checkpoint.mismatch import compare_weights, mismatch_error


def network(layers=100, size=4):
    return nn.ModuleDict(
        {
            "encoder": nn.Sequential(*(nn.Linear(size, size) for _ in range(layers))),
            "decoder": nn.Sequential(*(nn.Linear(size, size) for _ in range(layers))),
            "head": nn.Linear(size, 2),
        }
    )


def error_for(model, weights):
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        return mismatch_error(
            "the weights do not fit", error, compare_weights(model.state_dict(), weights), remedy="change the model"
        )
    raise AssertionError("the weights fit")


def test_weights_that_fit_have_no_differences():
    assert not compare_weights(network().state_dict(), network().state_dict())


def test_six_hundred_keys_are_counted_and_grouped_by_prefix():
    weights = {name.replace("coder", "net"): weight for name, weight in network().state_dict().items()}
    error = error_for(network(), weights)
    assert error.notes == (
        "note: only the network has 400 weights: 200 in `encoder` (`encoder.0.weight`, `encoder.0.bias`, …), "
        "200 in `decoder` (`decoder.0.weight`, `decoder.0.bias`, …)",
        "note: only the checkpoint has 400 weights: 200 in `ennet` (`ennet.0.weight`, `ennet.0.bias`, …), "
        "200 in `denet` (`denet.0.weight`, `denet.0.bias`, …)",
    )
    assert error.remedy == "change the model"
    assert len(str(error)) < 600


def test_every_kind_of_difference_is_shown():
    weights = network(2).state_dict()
    weights["head.weight"] = torch.zeros(3, 4)
    weights["mask.scale"] = weights.pop("head.bias")
    error = error_for(network(2), weights)
    assert error.notes == (
        "note: only the network has 1 weight: `head.bias`",
        "note: only the checkpoint has 1 weight: `mask.scale`",
        "note: 1 weight with different shapes in the checkpoint and in the network: `head.weight`: [3, 4] and [2, 4]",
    )


def test_many_groups_are_cut_off_and_the_rest_is_counted():
    weights = {}
    error = error_for(nn.ModuleDict({f"block_{index}": nn.Linear(1, 1) for index in range(10)}), weights)
    assert error.notes[0].endswith("2 in `block_3` (`block_3.weight`, `block_3.bias`), and 12 more")


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("encoder.", "begin with `encoder.`, but the names in the network do not"),
        ("generator.net.", "begin with `generator.net.`, but the names in the network do not"),
    ],
)
def test_prefix_of_all_weights_is_the_cause(prefix, said):
    weights = {prefix + name: weight for name, weight in network().state_dict().items()}
    assert error_for(network(), weights).remedy == f"the names in the checkpoint {said}; change the model"
    wrapped = nn.Module()
    wrapped.net = network()
    assert "names in the network begin with `net.`" in error_for(wrapped, network().state_dict()).remedy


def test_prefix_of_a_part_of_the_weights_is_the_cause_only_if_the_network_needs_nothing_else():
    """A checkpoint of a GAN also has the weights of the discriminator."""
    weights = {f"generator.{name}": weight for name, weight in network(2).state_dict().items()}
    both = {**weights, "discriminator.weight": torch.zeros(1)}
    assert "begin with `generator.`" in error_for(network(2), both).remedy
    del both["generator.head.bias"]
    assert error_for(network(2), both).remedy == "change the model"


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"size": 8}, "a size of the network has changed from 8 to 4"),
        ({"layers": 99}, "the network has more layers than when the checkpoint was saved"),
        ({"layers": 101}, "the network has fewer layers than when the checkpoint was saved"),
    ],
)
def test_another_size_is_the_cause(saved, said):
    assert error_for(network(), network(**saved).state_dict()).remedy == f"{said}; change the model"


def test_words_of_torch_are_shown_if_names_and_shapes_fit():
    class Refuses(nn.Linear):
        def load_state_dict(self, state_dict, **arguments):
            raise RuntimeError("not today")

    model = Refuses(1, 1)
    assert error_for(model, model.state_dict()).notes == ("torch says: not today",)
