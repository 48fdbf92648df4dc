"""Checks that the plugin meets AudioZEN's requirements."""

from audiozen.testing import check_entry_points, check_hooks, check_import, check_signature

from audiozen_plugin_swa.hooks import Swa


def test_every_component_has_an_entry_point():
    assert [(entry.kind, entry.name) for entry in check_entry_points("audiozen-plugin-swa")] == [("hooks", "swa")]


def test_arguments_can_be_checked_before_a_run():
    check_signature(Swa, "hooks")


def test_import_has_no_side_effects():
    check_import("audiozen_plugin_swa.hooks")


def test_hooks_exist():
    assert {"on_optimizer_step_end", "on_evaluation_start", "on_state_collect"} <= set(check_hooks(Swa))
