"""Checks that the plugin meets AudioZEN's requirements."""

import pytest
import torch
from audiozen.testing import (
    check_dataset,
    check_entry_points,
    check_import,
    check_loss,
    check_model,
    check_signature,
    write_pairs,
)

from audiozen_plugin_separation.dataset import TwoSpeakers
from audiozen_plugin_separation.loss import PitSiSnrLoss
from audiozen_plugin_separation.metric import Pit
from audiozen_plugin_separation.model import SmallTasNet
from audiozen_plugin_separation.trainer import SeparationTrainer


def test_every_component_has_an_entry_point():
    names = {(entry.kind, entry.name) for entry in check_entry_points("audiozen-plugin-separation")}
    assert names == {
        ("trainer", "source_separation"),
        ("dataset", "two_speakers"),
        ("loss_function", "sources_si_snr"),
        ("metric", "pit"),
        ("model", "small_tasnet"),
        ("commands", "separate"),
    }


@pytest.mark.parametrize(
    ("component", "kind"),
    [
        (SeparationTrainer, "trainer"),
        (TwoSpeakers, "dataset"),
        (PitSiSnrLoss, "loss_function"),
        (Pit, "metric"),
        (SmallTasNet, "model"),
    ],
)
def test_arguments_can_be_checked_before_a_run(component, kind):
    check_signature(component, kind)


def test_import_has_no_side_effects():
    check_import("audiozen_plugin_separation.trainer")


def test_gradients_of_the_loss_are_correct():
    check_loss(PitSiSnrLoss(), 2, 2, 60)


def test_model_gives_the_same_output_after_loading_a_checkpoint():
    check_model(lambda: SmallTasNet(num_sources=3, filters=4, kernel_size=8, layers=2), torch.randn(2, 101))


def test_batches_do_not_depend_on_the_number_of_workers(tmp_path):
    write_pairs(tmp_path, seconds=0.1)
    check_dataset(lambda: TwoSpeakers(tmp_path / "clean", clip_seconds=0.05, items=4), num_workers=1)
