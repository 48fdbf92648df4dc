"""A user's own TOML file can run code. The files in a checkpoint can't."""

import json
import sys

import pytest
import torch

from audiozen_core.checkpoint.store import CheckpointStore

EVIL = "from pathlib import Path\nPath('run.txt').write_text('run')\nclass Model: ...\n"


@pytest.fixture
def trained(project, audiozen):
    assert audiozen("run", "tiny.toml", "--set", "trainer.args.max_epochs=1").code == 0
    return project


def test_config_in_a_checkpoint_never_imports_code(trained, audiozen):
    checkpoint = (trained / "exp/tiny/checkpoints/best").resolve()
    (checkpoint / "evil.py").write_text(EVIL)
    for folder in (checkpoint, checkpoint.parent, checkpoint.parent.parent):
        for name in ("tiny.toml", "config.toml", "config__2030_01_01--00_00_00.toml"):
            (folder / name).write_text('[model]\npath = "evil.Model"\n')
    for where in (checkpoint, checkpoint / "model.safetensors"):
        outcome = audiozen("run", "tiny.toml", "-M", "test", "--ckpt-path", where)
        assert "evil" not in outcome.out + outcome.err
        assert not (trained / "run.txt").exists()
        assert "evil" not in sys.modules


def test_module_named_in_the_users_own_file_runs(trained, audiozen):
    """The negative control of the test above."""
    (trained / "evil.py").write_text(EVIL)
    audiozen("check", "tiny.toml", "--set", "model.path=evil.Model")
    assert (trained / "run.txt").exists()


def test_file_name_in_a_manifest_cannot_point_outside_the_checkpoint(trained, audiozen):
    """A path outside the checkpoint fails to load."""
    checkpoint = (trained / "exp/tiny/checkpoints/best").resolve()
    manifest = checkpoint / "manifest.json"
    text = manifest.read_text()
    assert "model.safetensors" in json.dumps(json.loads(text))
    manifest.write_text(text.replace("model.safetensors", "../../../../model.safetensors"))
    outcome = audiozen("run", "tiny.toml", "-M", "test", "--ckpt-path", checkpoint)
    assert outcome.code == 2


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/b", "..", ""])
def test_id_cannot_point_outside_save_dir(project, audiozen, name):
    before = sorted(project.parent.iterdir())
    outcome = audiozen("run", "tiny.toml", "--set", f'+meta.id="{name}"')
    assert outcome.code == 2, outcome.err
    assert not (project / "exp").exists()
    assert sorted(project.parent.iterdir()) == before


def test_section_suffix_cannot_point_outside_the_checkpoint(tmp_path):
    """A suffix can be any text, and the store uses it in file names."""
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    store.save({"model_../../evil": {"weight": torch.ones(2)}}, epoch=1, step=1)
    assert store.load("latest").state["model_../../evil"]["weight"].tolist() == [1.0, 1.0]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoints"]


@pytest.mark.parametrize("path", ["../evil", "..evil.Model", "/evil.py", "evil;x", "a/b:c"])
def test_component_path_cannot_be_a_file_path(project, audiozen, path):
    (project / "evil.py").write_text(EVIL)
    outcome = audiozen("check", "tiny.toml", "--set", f'model.path="{path}"')
    assert outcome.code == 2
    assert "not a well-formed `path`" in outcome.err
    assert not (project / "run.txt").exists()
