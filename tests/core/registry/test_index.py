from __future__ import annotations

import subprocess
import sys

import pytest

from audiozen_core.diagnostics import codes
from audiozen_core.registry.entry import Entry
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.index import PluginIndex, forget_installed, installed_index
from tests.core.registry.conftest import add_distribution


def entry(name, *, kind="loss_function", distribution="acme-losses", version="1.0", value="acme:Loss"):
    return Entry(f"audiozen.{kind}", name, value, distribution, version)


@pytest.fixture
def index():
    return PluginIndex(
        [
            entry("sdr"),
            entry("soft_dtw"),
            entry("sdr", distribution="other-losses", version="2.1"),
            entry("conv_tasnet", kind="model"),
            entry("mix", kind="dataset", distribution="other-losses", version="2.1"),
        ]
    )


# ------------------------------------------------------------------------------------------ look-up


def test_name_is_found_within_its_kind(index):
    assert index.find("soft_dtw", "loss_function") == entry("soft_dtw")


def test_name_is_found_without_giving_a_kind(index):
    assert index.find("mix").kind == "dataset"


def test_distribution_prefix_resolves_a_name_clash(index):
    assert index.find("other-losses:sdr", "loss_function").version == "2.1"


@pytest.mark.parametrize("spelling", ["Other_Losses:sdr", "other.losses:sdr", "OTHER-LOSSES:sdr"])
def test_distribution_prefix_may_use_any_equivalent_spelling(index, spelling):
    assert index.find(spelling, "loss_function").distribution == "other-losses"


def test_error_for_a_name_clash_lists_both_distributions(index):
    with pytest.raises(PathError) as caught:
        index.find("sdr", "loss_function")
    text = str(caught.value)
    assert caught.value.code == codes.CLASH
    for part in ("acme-losses 1.0", "other-losses 2.1", "`acme-losses:sdr`", "`other-losses:sdr`"):
        assert part in text
    assert caught.value.suggestion is None, "both distributions are equally likely"


def test_same_name_in_two_kinds_clashes_only_without_a_kind(index):
    both = PluginIndex([*index, entry("soft_dtw", kind="metric")])
    assert both.find("soft_dtw", "metric").kind == "metric"
    assert [len(group) for group in both.clashes()] == [2]
    with pytest.raises(PathError, match="soft_dtw"):
        both.find("soft_dtw")


def test_clashes_groups_entries_that_have_the_same_name(index):
    assert [[found.spelling for found in group] for group in index.clashes()] == [
        ["acme-losses:sdr", "other-losses:sdr"]
    ]


def test_error_for_an_unknown_name_suggests_one_and_lists_all(index):
    with pytest.raises(PathError) as caught:
        index.find("soft_dwt", "loss_function")
    assert caught.value.code == codes.UNKNOWN_NAME
    assert caught.value.suggestion == "soft_dtw"
    assert caught.value.label == "did you mean `soft_dtw`?"
    assert "installed: sdr, soft_dtw" in caught.value.notes
    assert "torch.nn.MSELoss" in caught.value.remedy


def test_error_for_an_unknown_name_may_have_no_suggestion(index):
    with pytest.raises(PathError) as caught:
        index.find("zebra", "loss_function")
    assert caught.value.suggestion is None
    assert caught.value.label == ""


def test_error_for_an_unknown_name_mentions_a_component_of_another_kind_that_has_it(index):
    with pytest.raises(PathError, match=r"acme-losses 1\.0 is a model"):
        index.find("conv_tasnet", "loss_function")


def test_error_for_an_unknown_distribution_suggests_a_similar_one(index):
    with pytest.raises(PathError) as caught:
        index.find("acme-loses:sdr", "loss_function")
    assert caught.value.code == codes.UNKNOWN_DISTRIBUTION
    assert caught.value.suggestion == "acme-losses:sdr"


def test_error_suggests_a_dot_for_a_colon_in_a_dotted_path(index):
    with pytest.raises(PathError) as caught:
        index.find("torch.optim:RAdam", "optimizer")
    assert caught.value.suggestion == "torch.optim.RAdam"


def test_error_mentions_another_distribution_with_the_name(index):
    with pytest.raises(PathError, match="`acme-losses:soft_dtw`"):
        index.find("other-losses:soft_dtw", "loss_function")


def test_names_and_entries_are_sorted(index):
    assert index.names("loss_function") == ("sdr", "soft_dtw")
    assert [found.name for found in index] == ["mix", "sdr", "sdr", "soft_dtw", "conv_tasnet"]
    assert len(index.entries()) == len(index) == 5


# ------------------------------------------------------------------------------------------ metadata


def test_scan_reads_metadata_on_the_search_path(tmp_path):
    add_distribution(tmp_path, "Acme_Losses", "1.2.3", loss_function={"sdr": "acme.sdr:Sdr"}, model={"net": "acme:Net"})
    add_distribution(tmp_path, "unrelated", "9.0")
    found = PluginIndex.scan([str(tmp_path)])
    assert list(found) == [
        Entry("audiozen.loss_function", "sdr", "acme.sdr:Sdr", "acme-losses", "1.2.3"),
        Entry("audiozen.model", "net", "acme:Net", "acme-losses", "1.2.3"),
    ]
    assert found.problems == {}


def test_entry_point_groups_of_other_programs_are_ignored(tmp_path):
    folder = add_distribution(tmp_path, "tool", "1.0", model={"net": "tool:Net"})
    text = (folder / "entry_points.txt").read_text(encoding="utf-8")
    (folder / "entry_points.txt").write_text(
        f"[console_scripts]\naudiozen.tool = tool:main\n# a comment\n\n{text}; another\n[pytest11]\nx=y\n",
        encoding="utf-8",
    )
    assert PluginIndex.scan([str(tmp_path)]).names() == ("net",)


def test_first_of_two_installations_on_the_path_is_used(tmp_path):
    add_distribution(tmp_path / "venv", "acme", "2.0", model={"new": "acme:New"})
    add_distribution(tmp_path / "base", "acme", "1.0", model={"old": "acme:Old"})
    first, second = str(tmp_path / "venv"), str(tmp_path / "base")
    assert PluginIndex.scan([first, second]).names() == ("new",)
    assert PluginIndex.scan([second, first]).names() == ("old",), "negative control: the order decides"


def test_first_installation_is_used_even_without_components(tmp_path):
    add_distribution(tmp_path / "venv", "acme", "2.0")
    add_distribution(tmp_path / "base", "acme", "1.0", model={"old": "acme:Old"})
    assert PluginIndex.scan([str(tmp_path / "venv"), str(tmp_path / "base")]).names() == ()


def test_egg_info_folder_is_read(tmp_path):
    folder = tmp_path / "acme.egg-info"
    folder.mkdir()
    (folder / "PKG-INFO").write_text("Name: acme\nVersion: 0.1\n", encoding="utf-8")
    (folder / "entry_points.txt").write_text("[audiozen.model]\nnet = acme:Net\n", encoding="utf-8")
    assert PluginIndex.scan([str(tmp_path)]).find("acme:net").version == "0.1"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "entry_points.txt").write_bytes(b"[audiozen.model]\nx = \xff\xfe\n"),
        lambda folder: (folder / "entry_points.txt").write_text("[audiozen.model]\nno equals sign\n"),
        lambda folder: (folder / "METADATA").write_text("Version: 1\n"),
        lambda folder: (folder / "METADATA").unlink(),
    ],
    ids=["not UTF-8", "not an entry", "no name", "no metadata"],
)
def test_broken_metadata_is_reported_and_does_not_affect_others(tmp_path, damage):
    damage(add_distribution(tmp_path, "broken", "1.0", model={"bad": "b:B"}))
    add_distribution(tmp_path, "whole", "1.0", model={"good": "g:G"})
    found = PluginIndex.scan([str(tmp_path)])
    assert found.names() == ("good",)
    assert found.problems.keys() == {"broken"}
    assert [problem.code for problem in found.problems["broken"]] == ["AZ224"]
    assert "broken-1.0.dist-info" in found.problems["broken"][0].message


def test_duplicate_name_in_one_distribution_is_reported(tmp_path):
    folder = add_distribution(tmp_path, "acme", "1.0")
    (folder / "entry_points.txt").write_text("[audiozen.model]\nnet = a:A\nnet = b:B\n", encoding="utf-8")
    found = PluginIndex.scan([str(tmp_path)])
    assert found.find("net").value == "a:A"
    assert "net" in found.problems["acme"][0].message


def test_missing_folders_are_ignored(tmp_path):
    assert len(PluginIndex.scan([str(tmp_path / "nowhere"), ""])) == 0


def test_installed_index_is_cached_until_the_path_changes(distribution, tmp_path, monkeypatch):
    distribution("acme", "1.0", model={"acme_net": "acme:Net"})
    first = installed_index()
    assert first is installed_index()
    assert first.find("acme_net").distribution == "acme"
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_index() is not first


def test_new_installation_is_found_after_forget_installed(site):
    assert "late" not in installed_index().names()
    folder = site / "late-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: late\nVersion: 1.0\n", encoding="utf-8")
    (folder / "entry_points.txt").write_text("[audiozen.model]\nlate = late:Late\n", encoding="utf-8")
    assert "late" not in installed_index().names(), "negative control: the index is cached"
    forget_installed()
    assert "late" in installed_index().names()


def test_first_party_components_are_found_through_entry_points():
    assert installed_index().find("audiozen:sdnn", "model") == installed_index().find("sdnn", "model")


def test_index_does_not_import_any_of_a_hundred_plugins(site, distribution):
    for number in range(100):
        distribution(f"audiozen-plugin-{number}", "1.0", model={f"net_{number}": f"plugin_{number}:Net"})
        (site / f"plugin_{number}.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from audiozen_core.registry.index import installed_index\n"
        "index = installed_index()\n"
        "assert len(index.names('model')) > 100, index.names()\n"
        "try: index.find('net_1o0', 'model')\n"
        "except Exception as error: assert error.suggestion, error\n"
        "heavy = ('torch', 'plugin_', 'audiozen_plugins', 'numpy')\n"
        "loaded = [name for name in sys.modules if name.startswith(heavy)]\n"
        "assert not loaded, loaded\n"
        "assert 'importlib.metadata' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
