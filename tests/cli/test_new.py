"""The plugins and recipes that `audiozen new` creates work without changes."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import tomli

from audiozen_core.scaffold import scaffold
from tests.clean_environment import CleanEnvironment, build_wheel

RUFF = Path(sysconfig.get_path("scripts")) / "ruff"
MANIFEST = Path(__file__).resolve().parents[2] / "recipes/mini_denoise/corpus/manifest.csv"


def ruff(folder):
    for arguments in (["check"], ["format", "--check"]):
        done = subprocess.run([RUFF, *arguments, "."], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_new_plugin_passes_ruff_and_requires_a_compatible_audiozen(tmp_path, audiozen):
    outcome = audiozen("new", "plugin", "acme-losses", "--into", tmp_path)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "audiozen-plugin-acme-losses"
    assert str(folder) in outcome.out
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    assert not any("{{name}}" in text or "__module__" in text for text in texts)
    ruff(folder)
    project = tomli.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["dependencies"][0] == "audiozen>=0.1,<0.2"
    assert list(project["entry-points"]["audiozen.model"]) == ["acme_losses_mask"]
    assert (folder / ".github/workflows/test.yml").read_text().count("${{ matrix.python }}") == 1
    assert (folder / ".gitignore").exists()


@pytest.mark.slow
def test_new_plugin_installs_and_passes_its_own_tests(tmp_path):
    folder = scaffold.new_plugin("acme", tmp_path)
    environment = CleanEnvironment.make(tmp_path / "environment")
    environment.install(build_wheel(folder, tmp_path / "dist"))
    done = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout


def test_experiment_runs_with_the_components_of_a_new_plugin(tmp_path, monkeypatch, tiny_experiment):
    """Uses dotted paths, because installing the plugin would be slower."""
    folder = scaffold.new_plugin("acme", tmp_path)
    monkeypatch.syspath_prepend(str(folder / "src"))
    tiny_experiment.set("model", "audiozen_plugin_acme.model.FrameMask", num_freqs=65)
    tiny_experiment.set("loss_function", "audiozen_plugin_acme.loss.LogL1Loss")
    outcome = tiny_experiment.add_hook("audiozen_plugin_acme.hooks.BestEpochs").run("train")
    assert "best epochs" in (outcome.folder / "tiny.log").read_text()
    for name in [name for name in sys.modules if name.startswith("audiozen_plugin_acme")]:
        del sys.modules[name]


def test_new_recipe_passes_ruff_and_runs_on_the_small_corpus(tmp_path, monkeypatch, audiozen):
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    outcome = audiozen("new", "recipe", "mini/gru")
    assert outcome.code == 0, outcome.err
    toml = Path("recipes/mini/gru/baseline.toml")
    assert str(toml) in outcome.out
    ruff("recipes/mini/gru")
    assert "recipes/mini/gru/baseline.toml -M train test" in toml.read_text()
    few = ["dataset.args.items_per_epoch=8", "+validate_dataset.args.items_per_epoch=2", "trainer.args.max_epochs=1"]
    outcome = audiozen("run", toml, *(word for change in few for word in ("--set", change)))
    assert outcome.code == 0, outcome.err
    assert Path("recipes/mini/gru/exp/baseline/checkpoints/best").exists()


@pytest.mark.parametrize("name", ["../evil", "Acme", "acme_x", "a/b", "", "acme-", "1acme"])
def test_invalid_plugin_name_is_an_error_and_creates_no_files(tmp_path, audiozen, name):
    outcome = audiozen("new", "plugin", name, "--into", tmp_path)
    assert outcome.code == 2
    assert "is not a valid plugin name" in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gru", "../x/y", "a/../b", "A/b", "a/b/c", "/etc"])
def test_recipe_name_without_data_set_and_model_is_an_error(tmp_path, audiozen, name):
    outcome = audiozen("new", "recipe", name, "--into", tmp_path, "--manifest", MANIFEST)
    assert outcome.code == 2
    assert "write DATASET/MODEL" in outcome.err
    assert not list(tmp_path.iterdir())


def test_new_does_not_change_an_existing_folder(tmp_path, audiozen):
    (tmp_path / "audiozen-plugin-acme").mkdir()
    (tmp_path / "audiozen-plugin-acme" / "mine").write_text("kept")
    outcome = audiozen("new", "plugin", "acme", "--into", tmp_path)
    assert outcome.code == 2
    assert "already exists" in outcome.err
    assert [path.name for path in (tmp_path / "audiozen-plugin-acme").iterdir()] == ["mine"]


def test_error_asks_for_a_manifest_if_there_is_no_corpus(tmp_path, monkeypatch, audiozen):
    monkeypatch.setattr(scaffold, "__file__", str(tmp_path / "site" / "audiozen_core" / "scaffold" / "scaffold.py"))
    outcome = audiozen("new", "recipe", "mini/gru", "--into", tmp_path)
    assert outcome.code == 2
    assert "--manifest FILE" in outcome.err
    shutil.copy(MANIFEST, tmp_path / "mine.csv")
    assert audiozen("new", "recipe", "mini/gru", "--into", tmp_path, "--manifest", tmp_path / "mine.csv").code == 0
    assert 'manifest = "${here}/../../mine.csv"' in (tmp_path / "mini/gru/baseline.toml").read_text()


def test_wheel_contains_the_templates(tmp_path):
    wheel = build_wheel(MANIFEST.parents[3], tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("audiozen_core/scaffold/templates/")}
    folder = Path(scaffold.__file__).parent
    templates = (folder / "templates").rglob("*.template")
    assert packed == {path.relative_to(folder.parents[1]).as_posix() for path in templates}
    assert "audiozen_core/scaffold/templates/plugin/.github/workflows/test.yml.template" in packed
    assert "audiozen_core/scaffold/templates/plugin/.gitignore.template" in packed
