"""Checks that the plugin meets AudioZEN's requirements."""

from audiozen.testing import check_entry_points, check_hooks, check_import, check_signature

from audiozen_plugin_sqlite.hooks import Sqlite


def test_every_component_has_an_entry_point():
    names = {(entry.kind, entry.name) for entry in check_entry_points("audiozen-plugin-sqlite")}
    assert names == {("hooks", "sqlite"), ("commands", "sqlite")}


def test_arguments_can_be_checked_before_a_run():
    check_signature(Sqlite, "hooks")


def test_import_has_no_side_effects():
    check_import("audiozen_plugin_sqlite.hooks")


def test_hooks_exist():
    assert {"on_run_start", "on_log", "on_rollback", "on_teardown"} <= set(check_hooks(Sqlite))
