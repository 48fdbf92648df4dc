"""The wheel of each example plugin passes the plugin's own tests, and its `example.toml` runs."""

import re
import shutil
import sys

import pytest
import tomli
import torch

from audiozen.audio import read_audio
from audiozen.testing import write_pairs
from audiozen_core.cli.main import main
from audiozen_core.registry.index import installed_index
from tests.examples.wheels import PLUGINS, copy_tests, importable, project, unpack_wheel

# Other tests cover the same code. Measuring the coverage here too would take longer than the tests themselves.
pytestmark = pytest.mark.no_cover


@pytest.fixture(scope="session")
def site_of(tmp_path_factory):
    """Returns a function that unpacks the wheel of a plugin, once."""
    sites = {}

    def site_of(name):
        if name not in sites:
            sites[name] = unpack_wheel(name, tmp_path_factory.mktemp(name))
        return sites[name]

    return site_of


class Counter:
    """Counts the tests that passed."""

    def __init__(self):
        self.passed = 0

    def pytest_runtest_logreport(self, report):
        self.passed += report.when == "call" and report.passed


@pytest.mark.slow  # The short tests run the example of each plugin from its wheel, see below.
@pytest.mark.parametrize("name", PLUGINS)
def test_tests_of_the_plugin_pass_with_its_wheel(name, site_of, capsys):
    """They run in this process, because importing torch takes longer than they do."""
    site = site_of(name)
    tests = copy_tests(name, site.parent)
    written = sum(len(re.findall(r"^def test_", file.read_text(), re.MULTILINE)) for file in tests.glob("test_*.py"))
    counter = Counter()
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist", "-p", "no:cov"]
    with importable(site):
        code = pytest.main([*options, "-c", "/dev/null", f"--rootdir={tests}", str(tests)], plugins=[counter])
    assert code == 0, capsys.readouterr().out
    assert counter.passed >= written > 5


# The arguments of each command, after the example has run, and a text in what it prints, with single spaces.
COMMANDS = {
    "sqlite": (["exp", "-s", "test/si_sdr"], "example finished 2"),
    "separate": (["exp/example", "noisy/clip_0.wav"], "the results are complete folder="),
}


def audiozen(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["audiozen", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


@pytest.mark.parametrize("name", [name for name in PLUGINS if name != "remix"])  # pip installs that one, see there
def test_example_of_the_plugin_runs(name, site_of, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path, seconds=0.6)
    shutil.copy(project(name) / "example.toml", tmp_path)
    with importable(site_of(name)):
        assert audiozen(monkeypatch, "run", "example.toml", "-M", "train", "test") == 0
        commands = installed_index().names("commands")
        if commands:
            assert audiozen(monkeypatch, "--help") == 0
            assert f"from audiozen-plugin-{name} 1.0.0" in capsys.readouterr().out
        for command in commands:
            arguments, printed = COMMANDS[command]
            assert audiozen(monkeypatch, command, *arguments) == 0
            assert printed in " ".join("".join(capsys.readouterr()).split())
    assert (tmp_path / "exp/example/checkpoints/best/model.safetensors").exists()
    assert audiozen(monkeypatch, "check", "example.toml") == 2
    missing = "`audiozen-plugin-separation` is required" if name == "separation" else f"no hook named `{name}`"
    assert missing in capsys.readouterr().err


@pytest.mark.parametrize("name", PLUGINS)
def test_example_uses_every_component_of_the_plugin(name):
    entry_points = tomli.loads((project(name) / "pyproject.toml").read_text())["project"]["entry-points"]
    of_no_section = ("audiozen.commands", "audiozen.pretrained")
    names = {name for group, entries in entry_points.items() if group not in of_no_section for name in entries}
    text = (project(name) / "example.toml").read_text()
    assert names
    assert all(f'path = "{name}"' in text for name in names)


@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_publishes_no_name_of_audiozen(name):
    """A name that both have means the component of AudioZEN."""
    entry_points = tomli.loads((project(name) / "pyproject.toml").read_text())["project"]["entry-points"]
    for group, entries in entry_points.items():
        assert not set(entries) & set(installed_index().names(group.removeprefix("audiozen.")))


@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_imports_public_names_only(name):
    for file in [*project(name).rglob("*.py")]:
        assert not re.search(r"\baudiozen_(core|plugins)\b", file.read_text()), file


def test_published_network_is_listed_described_and_used_by_its_name(site_of, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path, seconds=0.6)
    with importable(site_of("remix")):
        assert audiozen(monkeypatch, "plugins", "pretrained") == 0
        assert "mini-denoiser" in capsys.readouterr().out
        assert audiozen(monkeypatch, "plugins", "show", "mini-denoiser") == 0
        shown = capsys.readouterr().out
        assert "GruMask, 56,801 weights, 16000 Hz" in shown
        assert "## Trained on" in shown
        assert audiozen(monkeypatch, "enhance", "mini-denoiser", "noisy", "-o", "enhanced", "--device", "cpu") == 0
        score = {}
        for name in ("noisy", "enhanced"):
            files = sorted((tmp_path / name).glob("*.wav"))
            assert len(files) == 4
            # The clips are tones under noise.
            wave = [
                read_audio(file, sr=16000).stft(512, window=torch.hann_window(512), return_complex=True)
                for file in files
            ]
            score[name] = sum(float(one.abs()[150:].square().mean()) for one in wave)
        assert score["enhanced"] < 0.5 * score["noisy"]
    assert audiozen(monkeypatch, "enhance", "mini-denoiser", "noisy", "-o", "again") == 2
    assert "no installed plugin publishes a network of this name" in capsys.readouterr().err


def test_weights_of_the_published_network_are_small():
    assert sum(file.stat().st_size for file in project("remix").rglob("mini_denoiser/*")) < 300_000
