"""Checks that the plugin meets AudioZEN's requirements."""

import torch
from audiozen.testing import (
    check_entry_points,
    check_hooks,
    check_import,
    check_loss,
    check_model,
    check_signature,
)

from audiozen_plugin_remix.hooks import Thaw
from audiozen_plugin_remix.loss import MelDistanceLoss
from audiozen_plugin_remix.model import GruMask
from audiozen_plugin_remix.trainer import RemixTrainer


def test_every_component_has_an_entry_point():
    names = {(entry.kind, entry.name) for entry in check_entry_points("audiozen-plugin-remix")}
    assert names == {
        ("trainer", "remix"),
        ("loss_function", "mel_distance"),
        ("model", "gru_mask"),
        ("hooks", "thaw"),
        ("pretrained", "mini-denoiser"),
    }


def test_arguments_can_be_checked_before_a_run():
    check_signature(RemixTrainer, "trainer")
    check_signature(MelDistanceLoss, "loss_function")
    check_signature(GruMask, "model")
    check_signature(Thaw, "hooks")


def test_import_has_no_side_effects():
    check_import("audiozen_plugin_remix.trainer")


def test_hook_plugin_implements_on_epoch_start():
    assert set(check_hooks(Thaw)) == {"on_epoch_start"}


def test_model_gives_the_same_output_after_loading_a_checkpoint():
    check_model(lambda: GruMask(num_freqs=33, hidden_size=8), torch.rand(2, 33, 7))


def test_gradients_of_the_loss_are_correct():
    check_loss(MelDistanceLoss(n_ffts=(64, 128)), 2, 400)
