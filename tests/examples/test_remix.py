"""One of the example plugins is tested as users install it: pip installs its wheel into a separate environment."""

import shutil

import pytest

from audiozen.testing import write_pairs
from tests.clean_environment import CleanEnvironment, build_wheel
from tests.examples.wheels import project

PROJECT = project("remix")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return CleanEnvironment.make(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Copies the project, so that a test can change and build it."""
    folder = tmp_path_factory.mktemp("source") / "remix"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("dist", "__pycache__"))
    return folder


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """Creates a working directory for using the plugin."""
    folder = tmp_path_factory.mktemp("user")
    write_pairs(folder, seconds=0.6)
    shutil.copy(PROJECT / "example.toml", folder)
    return folder


@pytest.mark.slow  # half a minute of pip
def test_plugin_can_be_installed_used_upgraded_and_uninstalled(environment, source, user):
    assert "remix" not in environment.audiozen("plugins", cwd=user).stdout

    environment.install(build_wheel(source, source / "dist"))
    assert "gru_mask" in environment.audiozen("plugins", "model", cwd=user).stdout
    assert "audiozen-plugin-remix 1.0.0  third party" in environment.audiozen("plugins", "hooks", cwd=user).stdout
    run = environment.audiozen("run", "example.toml", cwd=user)
    assert run.returncode == 0, run.stderr
    assert "frozen" in run.stderr
    assert "thawed" in run.stderr
    assert (user / "exp/example/checkpoints/best/model.safetensors").exists()

    metadata = (source / "pyproject.toml").read_text()
    metadata = metadata.replace('version = "1.0.0"', 'version = "1.1.0"')
    metadata = metadata.replace("gru_mask =", 'gru = "audiozen_plugin_remix.model:GruMask"\ngru_mask =')
    (source / "pyproject.toml").write_text(metadata)
    environment.install(build_wheel(source, source / "dist"))
    models = environment.audiozen("plugins", "model", cwd=user).stdout
    assert "audiozen-plugin-remix 1.1.0" in models
    assert "1.0.0" not in models
    assert environment.audiozen("check", "example.toml", "--set", "model.path=gru", cwd=user).returncode == 0

    environment.pip("uninstall", "-y", "audiozen-plugin-remix")
    after = environment.audiozen("check", "example.toml", cwd=user)
    assert after.returncode == 2
    assert "no trainer named `remix` is installed" in after.stderr


def test_plugin_is_not_installed_in_the_test_environment():
    """Otherwise, the test above could use this installation and would prove nothing."""
    from audiozen_core.registry.index import installed_index

    assert "remix" not in installed_index().names("trainer")
