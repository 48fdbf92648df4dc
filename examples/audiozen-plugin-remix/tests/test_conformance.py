"""What AudioZEN asks of a plugin, one call each."""

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
from audiozen_plugin_remix.loss import MultiResolutionStftLoss
from audiozen_plugin_remix.model import GruMask
from audiozen_plugin_remix.trainer import RemixTrainer


def test_all_four_are_found_by_name():
    names = {(entry.kind, entry.name) for entry in check_entry_points("audiozen-plugin-remix")}
    assert names == {
        ("trainer", "remix"),
        ("loss_function", "multi_resolution_stft"),
        ("model", "gru_mask"),
        ("hooks", "thaw"),
    }


def test_their_arguments_can_be_checked_before_a_run():
    check_signature(RemixTrainer, "trainer")
    check_signature(MultiResolutionStftLoss, "loss_function")
    check_signature(GruMask, "model")
    check_signature(Thaw, "hooks")


def test_the_import_does_nothing_else():
    check_import("audiozen_plugin_remix.trainer")


def test_the_hook_is_one_that_is_called():
    assert set(check_hooks(Thaw)) == {"on_epoch_start"}


def test_the_model_goes_through_a_checkpoint():
    check_model(lambda: GruMask(num_freqs=33, hidden_size=8), torch.rand(2, 33, 7))


def test_the_loss_has_true_gradients():
    check_loss(MultiResolutionStftLoss(n_ffts=(64, 128)), 2, 400)
