"""Several ranks evaluate exactly what one process evaluates."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.core.distributed.test_data_parallel import experiment
from tests.on_ranks import all_right, on_ranks


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("size", [pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(8, marks=pytest.mark.slow)])
def test_results_are_those_of_one_process_to_the_last_bit(tmp_path, size):
    tiny = experiment(tmp_path, batch_size=4).set("trainer", max_epochs=1)
    for mode in ("validate", "test", "predict"):
        tiny.values[f"{mode}_dataset"].setdefault("dataloader", {})["batch_size"] = 2
    tiny.run()
    run = tmp_path / "exp/tiny"
    shutil.copytree(run, tmp_path / "kept")
    tiny.run("validate", "test", "predict")
    expected = {mode: contents(run / mode) for mode in ("test", "predict")}
    scalars = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    shutil.rmtree(run)
    shutil.copytree(tmp_path / "kept", run)
    # With eight ranks, some have no file at all.
    all_right(on_ranks(size, lambda rank: tiny.run("validate", "test", "predict") and None))

    assert {mode: contents(run / mode) for mode in ("test", "predict")} == expected
    assert sum(name.endswith(".wav") for name in expected["predict"]) == 7
    found = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert {**found, "time": 0} == {**scalars, "time": 0}


def test_only_the_main_process_writes(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).set("trainer", save_ckpt_minutes=0.0)
    tiny.values["hooks"][0]["enabled"] = True  # TensorBoard
    written: list[str] = []

    def watch(event, args):
        if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(str(args[0]))
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink"):
            written.extend(map(str, args[:2]))

    def run(rank):
        sys.addaudithook(watch)
        tiny.run("train", "validate", "test", "predict")
        return [path.removeprefix(folder) for path in written if path.startswith(folder)]

    folder = f"{tmp_path}/exp/tiny/"
    main, other = all_right(on_ranks(2, run))
    results = [path for path in other if path.startswith(("test/", "predict/"))]
    assert set(other) - set(results) == {"tiny.rank1.log"}
    # Another rank writes the audio of its own files, into the folder that rank 0 has made.
    assert results
    assert all(Path(path).suffix in (".wav", ".partial", "") for path in results), results
    assert any(path.startswith("tb_log") for path in main)
    assert any(path.startswith("checkpoints") for path in main)
