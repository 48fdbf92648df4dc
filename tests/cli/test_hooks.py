"""`audiozen hooks` lists the plugins of each hook in the order of their calls, with the line that enables them."""

import json

HOOKS = """
from audiozen_core.hooks.marker import hookimpl


class First:
    phase = "precision"

    @hookimpl
    def on_epoch_end(self): ...


class Around:
    after = ("mine.First", "nobody")

    @hookimpl(wrapper=True)
    def on_epoch_end(self):
        return (yield)
"""
TABLES = """
[[hooks]]
path = "mine.First"

[[hooks]]
path = "mine.Around"

[[hooks]]
path = "audiozen:tensorboard"
enabled = false
"""


def test_hooks_lists_each_plugin_in_order_with_its_origin(project, audiozen):
    (project / "mine.py").write_text(HOOKS)
    toml = project / "tiny.toml"
    line = len(toml.read_text().splitlines()) + 2
    toml.write_text(toml.read_text() + TABLES)
    outcome = audiozen("hooks", "tiny.toml")
    assert outcome.code == 0, outcome.err
    blocks = outcome.out.split("\non_epoch_end\n")[1].splitlines()
    rows = [row.split() for row in blocks[: next(i for i, row in enumerate(blocks) if not row.startswith("  "))]]
    ours = ("mine.Around", "mine.First", "progress", "checkpoint")
    assert [row for row in rows if row[0] in ours] == [
        ["mine.Around", "wraps", "mine", f"tiny.toml:{line + 3}", "after", "mine.First", "and", "nobody"],
        ["mine.First", "precision", "mine", f"tiny.toml:{line}"],
        ["progress", "monitor", "audiozen", "default"],
        ["checkpoint", "persist", "audiozen", "default"],
    ]
    assert "switched off: audiozen:tensorboard" in outcome.out
    assert "on_setup" not in outcome.out
    data = json.loads(audiozen("hooks", "tiny.toml", "--json").out)
    assert data["on_setup"] == []
    assert data["on_epoch_end"][0] == {
        "name": "mine.Around",
        "phase": "monitor",
        "before": [],
        "after": ["mine.First", "nobody"],
        "distribution": "",
        "object": "mine.Around",
        "why": f"tiny.toml:{line + 3}",
        "wraps": True,
    }


def test_hook_with_a_distribution_prefix_replaces_the_default(project, audiozen):
    with (project / "tiny.toml").open("a") as file:
        file.write('[[hooks]]\npath = "audiozen:progress"\n[hooks.args]\nline_seconds = 1\n')
    data = json.loads(audiozen("hooks", "tiny.toml", "--json").out)
    names = [(entry["name"], entry["why"].partition(":")[0]) for entry in data["on_epoch_start"]]
    assert [name for name in names if name[0] == "progress"] == [("progress", "tiny.toml")]


def test_error_in_a_hook_names_the_line_that_enables_it(project, audiozen):
    (project / "mine.py").write_text(HOOKS.replace("def on_epoch_end(self): ...", "def on_epoch_end(self): 1 / 0"))
    (project / "tiny.toml").write_text((project / "tiny.toml").read_text() + TABLES)
    outcome = audiozen("run", "tiny.toml")
    assert outcome.code == 2
    assert "hook plugin `mine.First` (tiny.toml:" in outcome.err
    assert "failed in `on_epoch_end`: ZeroDivisionError" in outcome.err


def test_error_suggests_the_right_name_for_a_misspelt_hook(project, audiozen):
    (project / "mine.py").write_text(HOOKS.replace("def on_epoch_end(self): ...", "def on_epoch_ends(self): ..."))
    (project / "tiny.toml").write_text((project / "tiny.toml").read_text() + TABLES)
    outcome = audiozen("hooks", "tiny.toml")
    assert outcome.code == 2
    assert "`on_epoch_ends` is not a hook" in outcome.err
    assert "did you mean `on_epoch_end`?" in outcome.err
