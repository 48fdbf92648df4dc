"""`audiozen plugins doctor` and the test kit find entry points that nothing can reach."""
# ruff: noqa: F811 - fixtures

import pytest

from audiozen.testing import check_entry_points
from audiozen_core.diagnostics import codes
from audiozen_core.inspection.health import metadata_findings
from audiozen_core.inspection.stray_groups import stray_groups
from audiozen_core.registry.entry import Entry
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.index import forget_installed, installed_index
from audiozen_core.registry.paths import resolve
from tests.installed import install, site  # noqa: F401 - fixtures

NET = "from torch import nn\nclass Net(nn.Module): ..."


def write_groups(folder, text):
    (folder / "entry_points.txt").write_text(text)
    forget_installed()


@pytest.mark.parametrize("name", ["with space", "x/y", "with:colon", "-net", ".net", "nêt", "a,b", "a*"])
def test_name_that_nothing_can_spell_is_found(install, name):
    install("acme", {"acme": NET}, model={name: "acme:Net"})
    for path in (name, f"acme:{name}"):
        with pytest.raises(PathError):
            resolve(path, section="model")
    found = [finding for finding in metadata_findings(installed_index()) if finding.code == codes.UNREACHABLE_NAME]
    assert [finding.message for finding in found] == [
        f"no TOML file or command line can name the model `{name}` of acme 1.0"
    ]
    with pytest.raises(AssertionError, match="no TOML file or command line can name"):
        check_entry_points("acme")


@pytest.mark.parametrize("name", ["net", "Net_2", "3d", "conv-tasnet", "a+b", "conv.tasnet"])
def test_name_that_a_toml_can_spell_is_not_reported(install, name):
    install("acme", {"acme": NET}, model={name: "acme:Net"})
    assert resolve(f"acme:{name}", section="model").target.__name__ == "Net"
    assert not [finding for finding in metadata_findings(installed_index()) if "acme" in finding.message]


def test_empty_name_is_metadata_that_cannot_be_read(install, audiozen):
    folder = install("acme", {"acme": NET}, model={"net": "acme:Net"})
    write_groups(folder, "[audiozen.model]\n = acme:Net\n")
    outcome = audiozen("plugins", "doctor", "acme")
    assert outcome.code == 1
    assert "`= acme:Net` in entry_points.txt is not `name = module:attribute`" in outcome.out
    with pytest.raises(AssertionError, match="is not `name = module:attribute`"):
        check_entry_points("acme")


@pytest.mark.parametrize(
    ("group", "meant"),
    [
        ("audiozen_models", "audiozen.model"),
        ("audiozen-loss_function", "audiozen.loss_function"),
        ("audiozen:hook", "audiozen.hooks"),
        ("AudioZEN.model", "audiozen.model"),
        ("audiozen/datasets", "audiozen.dataset"),
    ],
)
def test_group_that_nobody_reads_is_found_with_the_group_that_was_meant(install, audiozen, group, meant):
    folder = install("acme", {"acme": NET})
    write_groups(folder, f"[{group}]\nnet = acme:Net\n")
    outcome = audiozen("plugins", "doctor", "acme")
    assert outcome.code == 1
    assert f"acme 1.0 has the entry point group {group}, which AudioZEN does not read" in outcome.out
    assert f"help: did you mean `{meant}`?" in outcome.out
    with pytest.raises(AssertionError, match="which AudioZEN does not read"):
        check_entry_points("acme")


@pytest.mark.parametrize(
    ("group", "meant"), [("audiozen.loss", "audiozen.loss_function"), ("audiozen.metrics", "audiozen.metric")]
)
def test_group_of_ours_with_another_name_suggests_the_right_one(install, audiozen, group, meant):
    folder = install("acme", {"acme": NET})
    write_groups(folder, f"[{group}]\nnet = acme:Net\n")
    outcome = audiozen("plugins", "doctor", "acme")
    assert outcome.code == 1
    assert f"`net` of acme 1.0 is in the group {group}, which AudioZEN does not read" in outcome.out
    assert f"help: did you mean `{meant}`?" in outcome.out
    assert "unknown group" in audiozen("plugins").out


def test_bare_group_is_found_without_a_suggestion(install, site):
    write_groups(install("acme", {}), "[audiozen]\nnet = acme:Net\n")
    (stray,) = stray_groups([str(site)])
    assert (stray.group, stray.intended_group) == ("audiozen", "")


def test_groups_of_other_programs_are_not_reported(install, site):
    text = (
        "[audio.models]\na = b:C\n[audiozn.model]\na = b:C\n[console_scripts]\na = b:C\n[audiozenith.model]\na = b:C\n"
    )
    write_groups(install("other", {}, requires="torch"), text)
    assert list(stray_groups([str(site)])) == []
    write_groups(install("acme", {}, requires="audiozen>=0.1"), text)
    found = {stray.group: stray.intended_group for stray in stray_groups([str(site)])}
    assert found["audiozn.model"] == "audiozen.model", "a distribution that requires AudioZEN misspelt a group of it"
    assert "console_scripts" not in found


def test_doctor_of_all_distributions_finds_stray_groups_and_none_of_the_environment(install, audiozen, monkeypatch):
    assert list(stray_groups([entry for entry in __import__("sys").path if "site-packages" in entry])) == []
    write_groups(install("acme", {}), "[audiozen_models]\nnet = acme:Net\n")
    monkeypatch.setattr("audiozen_core.inspection.health.import_all", lambda entries, limit: ())
    assert "audiozen_models" in audiozen("plugins", "doctor").out


def test_entry_says_whether_it_can_be_reached():
    assert Entry("audiozen.model", "net", "a:B", "acme", "1.0").reachable
    assert not Entry("audiozen.model", "net\n", "a:B", "acme", "1.0").reachable
