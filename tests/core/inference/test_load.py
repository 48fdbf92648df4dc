"""A trained network is found and loaded: of a run, of a checkpoint, exported, published by a plugin."""

import importlib
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli
import torch
from safetensors.torch import save_file

import audiozen
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.errors import AudioZenError, CheckpointError, RunError
from audiozen_core.experiment.load_run import load_run
from audiozen_core.inference import load as loading
from audiozen_core.inference.export import export
from audiozen_core.inference.load import load
from audiozen_core.registry.entry import Entry
from audiozen_core.registry.index import PluginIndex
from audiozen_core.registry.paths import resolve

NOISE = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))


def use(source, *args, **kwargs):
    return load(source, *args, device="cpu", **kwargs)


@pytest.fixture
def elsewhere(run, tmp_path, monkeypatch):
    """A copy of the run, used from another working directory."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(run, tmp_path / "moved", symlinks=True)


def test_run_computes_what_its_trainer_computes(run):
    model = use(run)
    trainer = load_run(run).trainer
    with torch.no_grad():
        expected = trainer.enhance(NOISE[None])[0][0]
    assert torch.equal(model.enhance(NOISE, 16000), expected)
    assert (model.sr, type(model.network).__name__, model.source.epoch) == (16000, "Gate", 2)
    assert "Gate from" in repr(model)


def test_run_that_was_moved_and_its_checkpoints_give_the_same(run, elsewhere):
    expected = use(run).enhance(NOISE, 16000)
    best = elsewhere / "checkpoints" / "best"
    for source in ("moved", elsewhere, best, best.resolve(), best / "model.safetensors"):
        assert torch.equal(use(source).enhance(NOISE, 16000), expected)


def test_run_folder_without_a_best_checkpoint_gives_the_latest(elsewhere):
    store = CheckpointStore(elsewhere / "checkpoints")
    expected = use(elsewhere, "latest").fingerprint()
    (store.folder / "best").unlink()
    assert use(elsewhere).fingerprint() == expected


def test_each_checkpoint_and_the_average_have_fingerprints_of_their_own(run):
    prints = {
        use(run, checkpoint, weights=weights).fingerprint()
        for checkpoint in ("epoch_0001", "epoch_0002")
        for weights in ("raw", "ema")
    }
    assert len(prints) == 4
    assert use(run, "epoch_0002").fingerprint() == use(run, "epoch_0002", weights="raw").fingerprint()


def test_module_of_the_recipe_that_was_changed_is_other_code(tiny, run):
    helper = tiny.folder / "helper.py"
    before, content = use(run).source.code, helper.read_text()
    try:
        helper.write_text(content + "# changed\n")
        assert use(run).source.code != before
    finally:
        helper.write_text(content)
    assert use(run).source.code == before


def test_module_that_was_imported_before_the_network_is_loaded_is_code_too(tiny, run, monkeypatch):
    own = tiny.folder / "own.py"
    monkeypatch.syspath_prepend(tiny.folder)
    for name in ("own", "helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    imported, content = importlib.import_module("own"), own.read_text()
    before = use(run).source.code
    assert type(use(run).network) is imported.Gate
    try:
        own.write_text(content + "# changed\n")
        assert use(run).source.code != before
    finally:
        own.write_text(content)
        for name in ("own", "helper"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("module", "counts"),
    [
        ("audiozen_plugins/trainer/enhancement", True),  # the network's trainer
        ("audiozen_core/trainer/base_trainer", True),
        ("audiozen_core/audio/stft", True),
        ("audiozen_core/audio/resampling", True),
        ("audiozen_core/audio/chunks", True),
        ("audiozen_core/data/seeding", True),
        ("audiozen_core/inference/enhancer", True),
        ("audiozen_core/report/report", False),
        ("audiozen_plugins/dataset/pool", False),
    ],
)
def test_code_on_the_way_from_file_to_file_counts(run, monkeypatch, module, counts):
    before, read = use(run).source.code, Path.read_bytes
    changed = b"\n# changed"
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: read(path) + changed * path.as_posix().endswith(f"/{module}.py")
    )
    assert (use(run).source.code != before) is counts


def test_code_of_a_network_is_not_read_again_for_each_file(run, tmp_path, monkeypatch):
    model = use(run)
    monkeypatch.setattr(Path, "glob", lambda *_: pytest.fail("the code is read again"))
    assert model.source.code
    model.enhance(NOISE, 16000)
    model.fingerprint()


def test_average_is_that_of_the_hook(run):
    state = CheckpointStore(run / "checkpoints").load("latest").state
    (hook,) = [value for name, value in state.items() if "average" in value]
    assert torch.equal(use(run, "latest", weights="ema").network.level, hook["average"]["model.level"])
    assert torch.equal(use(run, "latest").network.level, state["model"]["level"])
    assert not torch.equal(state["model"]["level"], hook["average"]["model.level"])
    with pytest.raises(RunError, match="no hook offers weights named `swa`"):
        use(run, weights="swa")


def test_loading_changes_nothing_of_the_process_and_of_the_run(run):
    before = sorted(run.rglob("*"))
    threads, torch_state = torch.get_num_threads(), torch.get_rng_state()
    random.seed(1)
    np.random.seed(1)
    state = random.getstate(), np.random.get_state()[1].tolist()
    torch.use_deterministic_algorithms(True)
    try:
        use(run)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.get_num_threads() == threads
    assert sorted(run.rglob("*")) == before


def test_extras_of_the_training_are_not_needed(run, monkeypatch):
    for package in ("pesq", "pystoi", "tensorboard", "onnxruntime", "submitit"):
        monkeypatch.setitem(sys.modules, package, None)
    use(run).enhance(NOISE, 16000)


def test_metric_loss_and_data_of_a_plugin_that_is_not_installed_are_not_needed(elsewhere):
    """Only the record says which configuration belongs to a file of weights."""
    (record,) = elsewhere.glob("config__*.toml")
    text = record.read_text()
    for old, new in (('"pesq"', '"acme_score"'), ('"torch.nn.L1Loss"', '"acme_loss"'), ('"noisy_clean', '"acme_')):
        assert old in text
        text = text.replace(old, new)
    record.write_text(text)
    weights = elsewhere / "checkpoints" / "best" / "model.safetensors"
    shutil.copy(weights, elsewhere / "w.safetensors")
    assert torch.equal(
        use(elsewhere, "./moved/w.safetensors").enhance(NOISE, 16000), use(elsewhere).enhance(NOISE, 16000)
    )


def test_run_without_a_checkpoint_yet_is_a_clear_error(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"no checkpoint|has no"):
        use(tmp_path / "run")


def test_weights_of_another_model_are_a_clear_error(elsewhere, tmp_path):
    (record,) = elsewhere.glob("config__*.toml")
    record.write_text(record.read_text().replace("[model.args]\n", "[model.args]\nsize = 33\n"))
    text = record.read_text()
    if "size = 33" not in text:
        record.write_text(text.replace('path = "own.Gate"', 'path = "own.Gate"\nargs = {size = 33}'))
    shutil.copy(elsewhere / "checkpoints" / "best" / "model.safetensors", tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"do not fit \[model\]"):
        use(elsewhere, "./w.safetensors")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("nothing", "`nothing` does not exist, and no installed plugin publishes"),
        ("exp.toml", "is the file of an experiment, not a trained network"),
        ("empty", "is not a trained network"),
        ("file.wav", "is not a trained network"),
    ],
)
def test_what_is_not_a_trained_network_is_a_clear_error(tmp_path, monkeypatch, source, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.wav").touch()
    (tmp_path / "exp.toml").touch()
    with pytest.raises(AudioZenError, match=what):
        use(source)


def test_names_are_public():
    assert audiozen.load is load
    assert audiozen.export is export


# ------------------------------------------------------------------------------- exported folders


def test_exported_folder_works_alone(run, tmp_path, monkeypatch):
    folder = export(run, tmp_path / "new" / "denoiser", weights="ema")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.toml", "helper.py", "model.safetensors", "own.py",
    ]  # fmt: skip
    expected = use(run, weights="ema").enhance(NOISE, 16000)
    # The modules of the run are not there any more.
    moved = shutil.move(folder, tmp_path / "elsewhere")
    hidden = run.parent.parent / "own.py"
    monkeypatch.chdir(tmp_path)
    content = hidden.read_text()
    try:
        hidden.unlink()
        with pytest.raises(AudioZenError):
            use(run)
        for source in ("elsewhere", moved, f"{moved}/model.safetensors"):
            assert torch.equal(use(source).enhance(NOISE, 16000), expected)
    finally:
        hidden.write_text(content)
    config = (tmp_path / "elsewhere" / "config.toml").read_text()
    for word in ("optimizer", "loss_function", "dataset", "hooks", "metrics", "max_epochs", str(tmp_path), str(run)):
        assert word not in config
    with pytest.raises(RunError, match="only one set of weights"):
        use(moved, weights="ema")


def test_card_says_what_is_known(run, tmp_path):
    folder = export(run, tmp_path / "denoiser", "epoch_0001")
    text = (folder / "README.md").read_text()
    score = CheckpointStore(run / "checkpoints").load(run / "checkpoints/epoch_0001").score
    for fact in ("# denoiser", "`Gate`, 65 weights", "16000 Hz", "epoch 1, step 2", f"{score:.4g}", "licence"):
        assert fact in text
    assert 'path = "noisy_clean_folders"' in text


def test_export_does_not_touch_a_folder_with_something_in_it(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="not empty"):
        export(run, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["a"]
    export(run, tmp_path / "empty")
    assert use(tmp_path / "empty").fingerprint()


def test_export_that_would_compute_something_else_writes_nothing(run, tmp_path, monkeypatch):
    real = loading.build_enhancer

    def changed(found, **options):
        model = real(found, **options)
        if found.is_exported:
            with torch.no_grad():
                model.network.level[3] += 0.1
        return model

    monkeypatch.setattr("audiozen_core.inference.export.build_enhancer", changed)
    with pytest.raises(RunError, match="does not compute what"):
        export(run, tmp_path / "denoiser")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------- other trainers

OTHERS = {
    "separation": ("[model]", "dprnn", "{features = 8, hidden = 8, num_blocks = 1, num_filters = 16}"),
    "adversarial": ("[model_g]", "crn", "{num_freqs = 65, num_low = 8, num_bands = 8, hidden_size = 8}"),
    "flow": ("[model]", "flow_net", "{channels = 4, levels = 2, blocks = 1}"),
}


@pytest.mark.parametrize("trainer", OTHERS)
def test_each_trainer_of_audiozen_can_be_used_without_losses_and_data(tmp_path, trainer):
    section, path, args = OTHERS[trainer]
    (tmp_path / "config.toml").write_text(
        f"[meta]\nsave_dir = 'exp'\n[acoustics]\nn_fft = 128\nwin_length = 128\nhop_length = 64\n"
        f"[trainer]\npath = '{trainer}'\n{section}\npath = '{path}'\nargs = {args}\n"
    )
    torch.manual_seed(0)
    network = resolve(path, section="model").target(**tomli.loads(f"args = {args}")["args"])
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    model = use(tmp_path)
    found = model.enhance(NOISE, 16000)
    assert found.shape == ((2, 16000) if trainer == "separation" else (16000,))
    assert found.isfinite().all()
    assert torch.equal(model.enhance(NOISE, 16000), found)


# ------------------------------------------------------------------------------- published networks

FOLDER = None


def published():
    """Returns the folder of a network."""
    return FOLDER


@pytest.fixture
def name(run, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.FOLDER", str(export(run, tmp_path / "published")))
    entry = Entry("audiozen.pretrained", "tiny-denoiser", f"{__name__}:published", "acme", "1.0")
    monkeypatch.setattr(loading, "installed_index", lambda: PluginIndex([entry]))
    monkeypatch.chdir(tmp_path)
    return "tiny-denoiser"


def test_published_network_is_loaded_by_its_name(run, name):
    for spelled in (name, f"acme:{name}"):
        assert torch.equal(use(spelled).enhance(NOISE, 16000), use(run).enhance(NOISE, 16000))
    with pytest.raises(RunError, match=r"(?s)`tiny-denoise` does not exist.*did you mean `tiny-denoiser`"):
        use("tiny-denoise")


def test_folder_of_the_same_name_comes_first(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(RunError, match="is not a trained network"):
        use(name)


def test_published_folder_without_its_weights_is_an_error_of_the_plugin(name, tmp_path):
    (tmp_path / "published" / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"of acme 1\.0 is incomplete"):
        use(name)
