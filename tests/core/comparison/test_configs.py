"""The settings that differ between runs, in one table."""

from audiozen_core.comparison.configs import compare_settings

BASE = '[meta]\nid = "a"\nsave_dir = "x"\nseed = 1\n[optimizer.args]\nlr = 0.1\n'


def rows(configs):
    found, notes = compare_settings(configs)
    return {row.key: dict(row.values) for row in found}, notes


def test_each_setting_that_differs_from_the_baseline_has_a_value_for_each_run():
    faster = BASE.replace("0.1", "0.2").replace('"a"', '"b"').replace('"x"', '"y"')
    clipped = BASE + '[[hooks]]\npath = "clip"\n'
    assert rows({"a": [BASE], "b": [faster], "c": [clipped]}) == (
        {
            "optimizer.args.lr": {"a": "0.1", "b": "0.2", "c": "0.1"},
            "hooks.clip.path": {"a": "(not set)", "b": "(not set)", "c": '"clip"'},
        },
        [],
    )


def test_seed_counts_between_single_runs_and_not_between_groups_of_seeds():
    other = BASE.replace("seed = 1", "seed = 2")
    assert rows({"a": [BASE], "b": [other]}) == ({"meta.seed": {"a": "1", "b": "2"}}, [])
    assert rows({"a": [BASE], "b": [other, BASE]}) == ({}, [])


def test_runs_of_a_group_that_differ_in_more_than_the_seed_are_reported():
    other = BASE.replace("0.1", "0.3").replace("seed = 1", "seed = 2")
    _, notes = rows({"a": [BASE, other]})
    assert notes == ["warning: the runs of a differ in more than their seeds: optimizer.args.lr"]


def test_system_without_a_configuration_has_no_values():
    found, _ = rows({"csv": [None], "a": [BASE], "b": [BASE.replace("0.1", "0.2")]})
    assert found == {"optimizer.args.lr": {"a": "0.1", "b": "0.2"}}
    assert rows({"csv": [None], "a": [BASE]}) == ({}, [])
