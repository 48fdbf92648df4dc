"""`check` reports mistakes in the classes of hooks, at the `path` that names them, with the line of the method."""

import pytest

from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError
from audiozen_plugins.hooks.patience import Patience
from tests.installed import install, site  # noqa: F401 - fixtures
from tests.tiny_experiment import TOML, TinyExperiment

HOOKS = """
class Right:
    @hookimpl
    def on_epoch_end(self, epoch): ...


class Misspelt:
    @hookimpl
    def on_epoch_ends(self): ...


class Early:
    phase = "precision"
    after = ("checkpoint",)


class Before:
    before = ("parts.After",)


class After:
    before = ("parts.Before",)


def made():
    return Misspelt()
"""


@pytest.fixture
def findings(tmp_path):
    """Checks the tiny experiment with some hooks."""
    tiny = TinyExperiment(tmp_path, HOOKS)

    def check(*paths, more=""):
        hooks = "".join(f'[[hooks]]\npath = "{path}"\n' for path in paths)
        try:
            return check_config(load_config(tiny.write(text=TOML + hooks + more))).warnings
        except ConfigError as error:
            return error.diagnostics

    return check


def line_of(file, text):
    return file.read_text().splitlines().index(text) + 1


def test_a_misspelt_hook_is_reported_at_its_path_with_the_line_of_the_method(findings, tmp_path):
    assert findings("parts.Right") == ()
    (finding,) = findings("parts.Right", "parts.Misspelt")
    line = line_of(tmp_path / "tiny.toml", 'path = "parts.Misspelt"')
    assert finding.message == f"hook plugin `parts.Misspelt` (tiny.toml:{line}): `on_epoch_ends` is not a hook"
    assert (finding.code, finding.span.line, finding.span.column) == ("AZ600", line, 8)
    assert finding.source == 'path = "parts.Misspelt"'
    method = line_of(tmp_path / "parts.py", "    def on_epoch_ends(self): ...")
    assert finding.notes == (
        f"defined in: {tmp_path / 'parts.py'}:{method}, in Misspelt.on_epoch_ends",
        "help: did you mean `on_epoch_end`?",
    )


def test_mistakes_of_hooks_are_reported_together_with_all_others(findings):
    found = findings("parts.Misspelt", "parts.Misspelt", more="[acoustics]\nsr = 'x'\n")
    assert [finding.code for finding in found] == ["AZ600", "AZ600", "AZ105"]
    assert found[2].message.startswith("`acoustics.sr` must be an integer")


def test_a_hook_that_is_switched_off_is_not_checked(findings):
    assert findings("parts.Misspelt", more="enabled = false\n") == ()


def test_a_hook_of_an_installed_plugin_is_reported_with_its_distribution(findings, install):  # noqa: F811
    text = "from audiozen import hookimpl\nclass Hook:\n    @hookimpl\n    def on_epoch_end(epoch): ...\n"
    install("acme", {"acme": text}, hooks={"acme_hook": "acme:Hook"})
    (finding,) = findings("acme_hook")
    assert finding.message.startswith("hook plugin `acme_hook` of acme (tiny.toml:")
    assert finding.message.endswith("the method `on_epoch_end` has no `self`")
    assert "acme.py:4, in Hook.on_epoch_end" in finding.notes[0]


def test_a_default_hook_is_checked_too(findings, monkeypatch):
    monkeypatch.setattr(Patience, "phase", "late", raising=False)
    (finding,) = findings()
    assert finding.message == "hook plugin `patience` of audiozen (default): `late` is not a phase"
    assert finding.span is None
    # A default hook that is switched off does not matter.
    assert findings("patience", more="enabled = false\n") == ()


def test_a_contradiction_and_a_circle_are_reported_at_a_path(findings, tmp_path):
    (finding,) = findings("parts.Right", "parts.Early")
    assert finding.message == (
        "hook plugin `checkpoint` must run before `parts.Early`, but its phase `persist` comes after the phase "
        "`precision`"
    )
    assert finding.source == 'path = "parts.Early"'
    (finding,) = findings("parts.Before", "parts.After")
    assert "in a circle: `parts." in finding.message
    assert finding.source in ('path = "parts.Before"', 'path = "parts.After"')
    assert findings("parts.Before") == ()


def test_a_hook_that_a_function_makes_is_checked_when_it_is_built(findings, tmp_path):
    from audiozen_core.errors import HookError
    from audiozen_core.experiment.experiment import Experiment

    assert findings("parts.made") == ()
    experiment = Experiment.load(tmp_path / "tiny.toml")
    with experiment.scope, pytest.raises(HookError, match=r"`parts.made` .*`on_epoch_ends` is not a hook"):
        experiment.lifecycle()
