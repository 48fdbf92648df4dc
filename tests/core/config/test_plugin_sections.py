"""A plugin brings a section of its own, which is checked and explained like AudioZEN's own sections."""
# ruff: noqa: F811 - fixtures

import json
import shutil

import pytest

from audiozen_core.config.check import check_config
from audiozen_core.config.explain import effective_toml, explain
from audiozen_core.config.json_schema import experiment_schema
from audiozen_core.config.load import load_config
from audiozen_core.config.plugin_sections import PluginSections, is_taken
from audiozen_core.diagnostics import codes, config_codes
from audiozen_core.errors import AudioZenError, CheckpointError, ConfigError, RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.inspection.health import metadata_findings
from audiozen_core.inspection.probe import findings_about
from audiozen_core.registry.index import forget_installed, installed_index
from audiozen_core.registry.switched_off import VARIABLE
from tests.cli.conftest import audiozen  # noqa: F401 - fixtures
from tests.installed import install, site  # noqa: F401 - fixtures
from tests.tiny_experiment import TOML, TinyExperiment

# Other tests cover the same code. Measuring the coverage here too would take longer than the tests themselves.
pytestmark = pytest.mark.no_cover

ACME = '''
    """Settings of a mixer."""
    from __future__ import annotations
    from dataclasses import dataclass, field
    from pathlib import Path
    from typing import Literal

    from audiozen_core.hooks.marker import hookimpl

    @dataclass
    class Limits:
        """Limits of the gain.

        Args:
            lowest: the lowest gain.
        """
        lowest: float = -6.0

    @dataclass
    class Acme:
        """How to mix.

        Args:
            snr: the ratio in decibels.
            mode: how.
            folder: where.
            limits: the limits.
            path: not a component.
        """
        snr: float = 3.0
        mode: Literal["fast", "slow"] = "fast"
        folder: Path | None = None
        limits: Limits = field(default_factory=Limits)
        names: list[str] = field(default_factory=list)
        path: str = "nothing"

        def __post_init__(self):
            if self.snr > 100:
                raise ValueError("that is silence")

    @dataclass
    class Needed(Acme):
        root: str = field(kw_only=True)

    class Logged(Acme):
        affects_training = False

    class PartlyLogged(Acme):
        resume_safe = ("mode",)

    class Hook:
        seen = []

        @hookimpl
        def on_run_start(self, trainer):
            self.seen.append(trainer.sections["acme"])
'''


@pytest.fixture
def acme(install):
    sections = {"acme": "acme:Acme", "needed": "acme:Needed", "logged": "acme:Logged", "partly": "acme:PartlyLogged"}
    return install("acme", {"acme": ACME}, section=sections, hooks={"acme_hook": "acme:Hook"})


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path)


def findings(tiny, text, *overrides):
    try:
        return check_config(load_config(tiny.write(text=f"{text}\n{TOML}"), overrides)).warnings
    except ConfigError as error:
        return error.diagnostics


# ------------------------------------------------------------------------------------------ values


def test_values_are_converted_to_the_types_of_the_dataclass(acme, tiny):
    text = "[acme]\nsnr = 2\nfolder = 'data'\nlimits.lowest = -3.0\nnames = ['a']\npath = 'x.y'\n"
    sections = Experiment.load(tiny.write(text=text + TOML)).sections
    found = sections["acme"]
    assert (type(found).__name__, found.snr, str(found.folder), found.limits.lowest) == ("Acme", 2, "data", -3.0)
    assert (found.names, found.path) == (["a"], "x.y")


def test_hooks_of_a_run_get_the_object(acme, tiny):
    import acme as module

    hook = "[[hooks]]\npath = 'acme_hook'\n"
    Experiment.load(tiny.write(text=f"[acme]\nsnr = 5.0\n{hook}{TOML}")).run()
    Experiment.load(tiny.write(text=f"{hook}{TOML}", name="default")).run()
    assert [found.snr for found in module.Hook.seen] == [5.0, 3.0]


def test_section_that_the_file_does_not_have_is_made_from_its_defaults_when_it_is_asked_for(acme, tiny):
    sections = Experiment.load(tiny.write()).sections
    assert dict(sections) == {}
    assert sections["acme"].snr == 3.0
    assert sections["acme"] is sections["acme"]
    with pytest.raises(RunError, match=r"has no \[needed\], and `root` has no default") as missing:
        sections["needed"]
    assert missing.value.remedy == "add [needed] with `root`"
    for name, remedy in (("model", "install"), ("banana", "install"), ("acm", "did you mean `acme`?")):
        with pytest.raises(
            RunError, match=rf"no installed plugin provides a section `{name}`; there are .*\[acme\]"
        ) as error:
            sections[name]
        assert error.value.remedy.startswith(remedy)
    assert sections.get("logged") is None


def test_installed_section_is_imported_only_if_it_is_used(install, tiny):
    install("broken", {"broken": "1 / 0"}, section={"broken": "broken:B"})
    sections = Experiment.load(tiny.write()).sections
    with pytest.raises(AudioZenError, match=r"broken 1\.0"):
        sections["broken"]


# ------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("text", "line", "code", "message", "suggestion"),
    [
        ("[acme]\nsnrr = 1.0", 2, config_codes.UNKNOWN_ARGUMENT, "unknown key `snrr` for [acme]", "snr"),
        ('[acme]\nsnr = "a"', 2, config_codes.WRONG_ARGUMENT_TYPE, "key `snr` of [acme] takes `float`", None),
        ('[acme]\nmode = "fats"', 2, config_codes.WRONG_ARGUMENT_TYPE, "key `mode` of [acme] takes", '"fast"'),
        ("[acme]\n[acme.limits]\nlow = 1", 3, config_codes.UNKNOWN_ARGUMENT, "unknown key `low` for Limits", "lowest"),
        ("[acme]\nlimits.lowest = true", 2, config_codes.WRONG_ARGUMENT_TYPE, "key `limits.lowest` of Limits", None),
        ("[needed]\nsnr = 1.0", 1, config_codes.MISSING_ARGUMENT, "missing key `root` for [needed]", None),
        ("[acme]\nsnr = 200.0", 1, config_codes.BAD_VALUE, "`Acme` raised ValueError: that is silence", None),
        ("[[acme]]\nsnr = 1.0", 1, config_codes.WRONG_TYPE, "`acme` must be a table", None),
        ("acme = 3", 1, config_codes.WRONG_TYPE, "`acme` must be a table", None),
        ("[acmee]\nsnr = 1.0", 1, config_codes.UNKNOWN_SECTION, "unknown section `acmee`", "acme"),
        ("[acme]\nsnr = '${acme.mod}'", 2, config_codes.BAD_REFERENCE, "acme.mod", None),
    ],
)
def test_mistake_is_found_at_its_line(acme, tiny, text, line, code, message, suggestion):
    (found,) = findings(tiny, text)
    assert (found.code, found.severity, found.span.line) == (code, "error", line)
    assert message in found.message
    if suggestion:
        assert found.suggestion == suggestion


def test_section_without_mistakes_has_no_findings(acme, tiny):
    assert findings(tiny, "[acme]\nsnr = 1.0\nmode = 'slow'\n[needed]\nroot = '${acme.mode}'") == ()


def test_section_that_is_broken_or_no_dataclass_is_an_error_at_its_header(install, tiny):
    install("bad", {"bad": "1 / 0"}, section={"broken": "bad:B"})
    install("no", {"no": "class N: ..."}, section={"plain": "no:N"})
    broken, plain = findings(tiny, "[broken]\n[plain]\n")
    assert (broken.span.line, plain.span.line) == (1, 2)
    assert "bad 1.0" in broken.message
    assert "the section `plain` of no 1.0 is not a dataclass" in plain.message


# ------------------------------------------------------------------------------------------ the other commands


def test_set_changes_and_adds_keys_and_suggests(acme, tiny):
    file = tiny.write(text=f"[acme]\nmode = 'slow'\n{TOML}")
    for overrides in (["acme.snr=7.5"], ["acme.mode=fast", "acme.snr=7.5"]):
        assert Experiment.load(file, overrides=overrides).sections["acme"].snr == 7.5
    plain = tiny.write(name="plain")
    assert Experiment.load(plain, overrides=["acme.snr=7.5"]).sections["acme"].snr == 7.5
    assert Experiment.load(plain, overrides=["acme.limits.lowest=-1.0"]).sections["acme"].limits.lowest == -1.0
    (unknown,) = findings(tiny, "", "acme.snrr=7.5")
    assert (unknown.code, unknown.suggestion) == (config_codes.UNKNOWN_OVERRIDE, "snr")


def test_extending_file_changes_single_keys(acme, tiny):
    tiny.write(text=f"[acme]\nsnr = 1.0\nmode = 'slow'\n{TOML}", name="base")
    file = tiny.write(text='extends = "base.toml"\n[acme]\nsnr = 2.0\n', name="own")
    found = Experiment.load(file).sections["acme"]
    assert (found.snr, found.mode) == (2.0, "slow")
    assert "snr = 2.0" in effective_toml(load_config(file))


def test_explain_knows_default_type_and_meaning(acme, tiny):
    loaded = load_config(tiny.write(text=f"[acme]\nmode = 'slow'\n{TOML}"))
    for line in ('acme.mode = "slow"', 'default   "fast"', "what for  how."):
        assert line in explain(loaded, "acme.mode")
    assert "acme.snr is not set" in explain(loaded, "acme.snr")
    assert "what for  the lowest gain." in explain(loaded, "acme.limits.lowest")
    with pytest.raises(AudioZenError, match=r"did you mean `acme\.snr`"):
        explain(loaded, "acme.snrr")


def test_schema_describes_the_section(acme, install):
    install("bad", {"bad": "1 / 0"}, section={"broken": "bad:B"})
    schema = experiment_schema()
    own = schema["definitions"]["acme"]
    assert schema["properties"]["acme"] == {"$ref": "#/definitions/acme"}
    assert own["description"] == "How to mix."
    assert own["additionalProperties"] is False
    assert own["properties"]["mode"] == {"enum": ["fast", "slow"], "default": "fast", "description": "how."}
    assert own["properties"]["limits"]["properties"]["lowest"]["description"] == "the lowest gain."
    assert schema["definitions"]["broken"] == {"type": "object"}
    json.dumps(schema)


def test_show_prints_toml_that_can_be_pasted(acme, tiny, audiozen):
    outcome = audiozen("plugins", "show", "acme", "--kind", "section")
    assert outcome.code == 0, outcome.err
    toml = outcome.out[outcome.out.index("[acme]") :]
    assert "snr = 3.0" in toml
    assert findings(tiny, toml) == ()


# ------------------------------------------------------------------------------------------ records and resuming


def test_record_has_the_section_and_after_an_uninstall_the_error_names_the_distribution(acme, tiny, audiozen):
    file = str(tiny.write(text=f"[acme]\nsnr = 2.0\n{TOML}"))
    assert audiozen("run", file).code == 0
    (record,) = (tiny.folder / "exp" / "tiny").glob("config__*.toml")
    assert "# plugins: `acme` of acme 1.0\n" in record.read_text()
    assert Experiment.load(record).sections["acme"].snr == 2.0
    off = audiozen("check", file, "--without", "acme")
    assert "unknown section `acme`" in off.err
    assert "note: the section `acme` of acme 1.0 is switched off" in off.err
    shutil.rmtree(acme)
    forget_installed()
    outcome = audiozen("check", file)
    assert outcome.code == 2
    assert f"{file}:1:2" in outcome.err
    assert "note: an earlier run used `acme` of acme 1.0" in outcome.err
    assert "help: pip install 'acme==1.0'" in outcome.err


@pytest.mark.parametrize(
    ("section", "key", "value", "drifts"),
    [
        ("acme", "snr", "2.5", True),
        ("acme", "path", '"os.path"', True),
        ("logged", "snr", "2.5", False),
        ("partly", "snr", "2.5", True),
        ("partly", "mode", '"slow"', False),
    ],
)
def test_change_is_drift_unless_the_dataclass_says_otherwise(acme, tiny, section, key, value, drifts):
    Experiment.load(tiny.write(text=f"[{section}]\nsnr = 2.0\n{TOML}")).run()
    experiment = Experiment.load(tiny.folder / "tiny.toml", overrides=[f"{section}.{key}={value}"])
    if not drifts:
        experiment.run(resume=True)
        return
    with pytest.raises(CheckpointError, match="have changed") as caught:
        experiment.run(resume=True)
    assert any(note.startswith(f"changed: {section}.{key}: ") for note in caught.value.notes)


# ------------------------------------------------------------------------------------------ names


def test_names_of_audiozen_are_taken():
    assert all(map(is_taken, ["model", "model_x", "loss", "loss_d", "validation_dataset", "extends", "hooks"]))
    assert not any(map(is_taken, ["acme", "modelling", "losses", "meta_x"]))


@pytest.mark.parametrize("name", ["model", "optimizer_x", "loss", "extends"])
def test_name_of_audiozen_is_a_fault_and_keeps_its_meaning(install, tiny, name):
    install("bad", {"bad": ACME}, section={name: "bad:Acme"})
    found = [finding for finding in metadata_findings(installed_index()) if "bad" in finding.message]
    assert [(finding.code, finding.severity) for finding in found] == [(codes.CLASH, "error")]
    assert f"the section `{name}` of bad 1.0 has the name of one of AudioZEN's own" in found[0].message
    assert findings(tiny, "") == ()
    with pytest.raises(RunError, match=f"no installed plugin provides a section `{name}`; no plugin provides any"):
        PluginSections()[name]


def test_section_of_two_plugins_is_an_error_where_it_is_used(install, tiny, monkeypatch):
    for owner in ("left", "right"):
        install(owner, {owner: ACME}, section={"acme": f"{owner}:Acme"})
    (found,) = findings(tiny, "[acme]\n")
    assert (found.code, found.span.line) == (codes.CLASH, 1)
    assert found.message == "the section `[acme]` belongs to several plugins: left 1.0 and right 1.0"
    assert found.notes == ("help: switch one of them off with `--without left` or `--without right`",)
    assert findings(tiny, "") == (), "unused"
    (named,) = [finding for finding in metadata_findings(installed_index()) if finding.code == codes.CLASH]
    assert "`--without left` or `--without right`" in "\n".join(named.notes)
    monkeypatch.setenv(VARIABLE, "left")
    assert findings(tiny, "[acme]\nsnr = 1.0") == ()


@pytest.mark.parametrize("name", ["a.b", "a+b"])
def test_name_that_is_no_bare_key_cannot_be_reached(install, name):
    install("bad", {"bad": ACME}, section={name: "bad:Acme"})
    assert codes.UNREACHABLE_NAME in [finding.code for finding in metadata_findings(installed_index())]


def test_doctor_reports_a_section_that_is_no_dataclass(install):
    install("no", {"no": "class N: ..."}, section={"plain": "no:N"})
    (found,) = findings_about(installed_index().find("plain"))
    assert "is not a dataclass" in found.message
