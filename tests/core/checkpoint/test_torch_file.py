"""Files of torch become safetensors files; code in them is never run."""

import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from audiozen_core.checkpoint.read_torch_file import convert_weights
from audiozen_core.checkpoint.torch_file import convert_torch_file
from audiozen_core.cli.main import main
from audiozen_core.errors import CheckpointError

WEIGHTS = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.steps": torch.tensor(3)}


class Code:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def saved(folder, content, **options):
    path = folder / "weights.tar"
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("content", "key", "left_out"),
    [
        (WEIGHTS, "", []),
        ({**WEIGHTS, "epoch": 3}, "", ["epoch"]),
        ({"model": WEIGHTS, "epoch": 3}, "model", []),
        ({"state": {"net": WEIGHTS}, "lr": [0.1]}, "state.net", []),
    ],
)
def test_weights_are_found_and_keep_their_values(tmp_path, content, key, left_out, zipped):
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    done = convert_weights(path, tmp_path / "out.safetensors", "")
    assert done == {"key": key, "tensors": 2, "weights": 7, "left_out": left_out}
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in WEIGHTS.items())


def test_state_of_an_optimiser_is_not_taken_for_weights(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    assert convert_weights(saved(tmp_path, content), tmp_path / "out.safetensors", "")["key"] == "model"


def test_tied_and_strided_weights_are_written(tmp_path):
    weight = torch.arange(6.0).view(2, 3).t()
    path = saved(tmp_path, {"first": weight, "second": weight})
    assert "error" not in convert_weights(path, tmp_path / "out.safetensors", "")
    assert all(torch.equal(value, weight) for value in load_file(tmp_path / "out.safetensors").values())


@pytest.mark.parametrize(
    ("content", "key", "message", "remedy"),
    [
        ({"a": WEIGHTS, "b": WEIGHTS}, "", "several dictionaries", "choose one with `--key a` or `--key b`"),
        ({"a": WEIGHTS, "b": WEIGHTS}, "c", "no weights at `c`", "choose one with `--key a` or `--key b`"),
        ({"epoch": 3}, "", "no dictionary of tensors", ""),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "", "torch.complex64", ""),
        ({"a": torch.zeros(2, 2).to_sparse()}, "", "can't be stored", ""),
    ],
)
def test_file_without_one_set_of_weights_is_refused_and_nothing_is_written(tmp_path, content, key, message, remedy):
    done = convert_weights(saved(tmp_path, content), tmp_path / "out.safetensors", key)
    assert message in done["error"]
    assert remedy == done["remedy"]
    assert not (tmp_path / "out.safetensors").exists()
    if "a" in content and isinstance(content["a"], dict):  # the key is what decides
        assert convert_weights(tmp_path / "weights.tar", tmp_path / "out.safetensors", "b")["key"] == "b"


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_named_and_not_run(tmp_path, zipped):
    path = saved(tmp_path, {"model": WEIGHTS, "x": Code(tmp_path / "ran")}, _use_new_zipfile_serialization=zipped)
    done = convert_weights(path, tmp_path / "out.safetensors", "")
    assert "`posix.mkdir`, which is code; it was not run" in done["error"]
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out.safetensors").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()  # the file would have run it


def test_file_that_is_cut_or_something_else_is_refused(tmp_path):
    path = saved(tmp_path, WEIGHTS)
    path.write_bytes(path.read_bytes()[:-100])
    assert "torch can't read it" in convert_weights(path, tmp_path / "out.safetensors", "")["error"]
    path.write_text("hello")
    assert "torch can't read it" in convert_weights(path, tmp_path / "out.safetensors", "")["error"]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_plain_pickle_is_refused_without_torchs_advice_to_run_it(tmp_path, protocol):
    path = tmp_path / "weights.tar"
    path.write_bytes(pickle.dumps({"model": Code(tmp_path / "ran")}, protocol))
    done = convert_weights(path, tmp_path / "out.safetensors", "")
    assert "weights_only" not in done["error"]
    assert done["error"].rpartition(": ")[2]
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("none.tar", "out.safetensors", "is not a file"),
        ("weights.tar", "out.pt", "does not end in .safetensors"),
        ("weights.tar", "old.safetensors", "already exists"),
        ("weights.tar", "none/out.safetensors", "does not exist"),
    ],
)
def test_wrong_paths_are_refused_before_anything_is_read(tmp_path, source, target, message):
    saved(tmp_path, WEIGHTS)
    (tmp_path / "old.safetensors").write_text("mine")
    with pytest.raises(CheckpointError, match=message):
        convert_torch_file(tmp_path / source, tmp_path / target)
    assert (tmp_path / "old.safetensors").read_text() == "mine"


@pytest.mark.slow  # the fine-tuning page is the short form: test_docs runs its command
def test_command_reads_the_file_in_another_process_without_modules_of_its_folder(tmp_path, monkeypatch, capsys):
    saved(tmp_path, {"model": WEIGHTS})
    Path(tmp_path, "torch.py").write_text("raise SystemExit('imported from the folder of the file')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read in this process"))
    for target, code in (("out.safetensors", 0), ("out.safetensors", 2)):
        monkeypatch.setattr(sys, "argv", ["audiozen", "convert", "weights.tar", target])
        with pytest.raises(SystemExit) as stop:
            main()
        assert (stop.value.code or 0) == code
    printed = capsys.readouterr()
    assert "out.safetensors: 2 tensors with 7 weights from `model`" in printed.out
    assert "already exists" in printed.err
