"""`audiozen compare` on runs, result folders, scores of `audiozen evaluate`, and CSV files as users have them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import audiozen as package
from audiozen_core.comparison.compare import compare
from audiozen_core.errors import DataError, RunError
from audiozen_core.results.comparison import Comparison
from audiozen_core.testing.tiny import TinyExperiment, write_pairs
from tests.core.scoring.audio_folders import noise, write
from tests.core.scoring.audio_folders import write_pairs as write_enhanced


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Trains and tests `slow` and two seeds of `fast` once; the tests work on copies."""
    folder = tmp_path_factory.mktemp("runs")
    write_pairs(folder)
    for name, seed, rate in (("slow", 1, 1e-3), ("fast_seed_1", 1, 0.02), ("fast_seed_2", 2, 0.02)):
        tiny = TinyExperiment(folder).set("trainer", max_epochs=1).set("optimizer", lr=rate)
        tiny.values["meta"] |= {"id": name, "seed": seed}
        tiny.run("train", "test")
    (folder / "exp/fast_seeds.json").write_text(json.dumps({"seeds": [1, 2], "scalars": {}}))
    return folder


@pytest.fixture
def here(runs, tmp_path, monkeypatch):
    shutil.copytree(runs / "exp", tmp_path / "exp")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def csvs(tmp_path, monkeypatch):
    """Writes `a.csv` and `b.csv` of another program, and returns the function that writes such a file."""
    monkeypatch.chdir(tmp_path)

    def write(name, *lines, header="file,snr,pesq"):
        (tmp_path / name).write_text("\n".join([header, *lines]) + "\n")

    write("a.csv", *(f"x_{number}.wav,{number % 2 * 5},{1 + number / 10}" for number in range(8)))
    write("b.csv", *(f"x_{number}.flac,{number % 2 * 5},{1.5 + number / 9}" for number in range(8)))
    return write


def test_two_runs_and_the_noisy_files_are_compared(audiozen, here):
    done = audiozen("compare", "exp/slow", "exp/fast_seed_1", "exp/slow:noisy", "-o", "out")
    assert done.code == 0, done.err
    assert "slow: exp/slow/test/best_epoch_0001/0\n" in done.err
    assert "noisy: exp/slow/test/best_epoch_0001/0, noisy\n" in done.err
    assert "warning" not in done.err
    settings = done.out[done.out.index("\nsetting") :].splitlines()
    assert [line.split() for line in settings[3:]] == [
        ["meta.seed", "1"] if "seed" in line else ["optimizer.args.lr", "0.001", "0.02"] for line in settings[3:]
    ]
    assert "audio of noisy: exp/slow/test/best_epoch_0001/0/audio" in done.out
    assert "audio of fast_seed_1: exp/fast_seed_1/test/best_epoch_0001/0/audio" in done.out
    content = json.loads((here / "out/comparison.json").read_text())
    means = {name: of["si_sdr"]["mean"] for name, of in content["means"].items()}
    for name, state in (("slow", "enhanced"), ("fast_seed_1", "enhanced"), ("noisy", "noisy")):
        run = here / "exp" / ("slow" if name == "noisy" else name)
        tested = json.loads((run / "test/best_epoch_0001/0/scores.json").read_text())
        assert means[name] == pytest.approx(tested["all"]["si_sdr"][state])
    assert (here / "out/comparison.txt").read_text() == done.out


def test_seeds_of_a_run_are_one_system(audiozen, here):
    for system in ("exp/fast", "fast=exp/fast_seed_*", "fast=exp/fast_seed_1,exp/fast_seed_2"):
        done = audiozen("compare", "exp/slow", system)
        assert done.code == 0, done.err
        (row,) = [line for line in done.out.splitlines() if " ± " in line]
        assert row.split()[0] == "fast"
        assert "optimizer.args.lr" in done.out
        assert "meta.seed" not in done.out
    found = compare({"slow": "exp/slow", "fast": ["exp/fast_seed_1", "exp/fast_seed_2"]})
    assert found.difference("si_sdr", "fast").over_seeds
    alone = [
        compare(["exp/slow", f"exp/fast_seed_{seed}"]).difference("si_sdr", f"fast_seed_{seed}") for seed in (1, 2)
    ]
    assert found.difference("si_sdr", "fast").mean == pytest.approx(np.mean([one.mean for one in alone]))


def test_python_face_is_the_same_function(here):
    assert package.compare is compare
    found = package.compare(["exp/slow", "exp/fast_seed_1"])
    assert isinstance(found, Comparison)
    assert found.baseline.name == "slow"


def test_baseline_is_named_and_comes_first(audiozen, here):
    done = audiozen("compare", "exp/slow", "exp/fast_seed_1", "--baseline", "fast_seed_1")
    assert "system minus fast_seed_1" in done.out
    done = audiozen("compare", "exp/slow", "exp/fast_seed_1", "--baseline", "fast")
    assert done.code == 2
    assert "no system is called `fast`" in done.err


def test_latest_test_or_that_of_a_checkpoint_is_taken_and_reported(audiozen, here):
    tests = here / "exp/slow/test"
    os.utime(shutil.copytree(tests / "best_epoch_0001", tests / "latest_epoch_0001"))
    done = audiozen("compare", "exp/slow", "exp/fast_seed_1")
    assert "slow: exp/slow/test/latest_epoch_0001/0" in done.err
    done = audiozen("compare", "exp/slow", "exp/fast_seed_1", "--checkpoint", "best")
    assert "slow: exp/slow/test/best_epoch_0001/0" in done.err
    done = audiozen("compare", "exp/slow", "exp/fast_seed_1", "--checkpoint", "epoch_0007")
    assert done.code == 2
    assert "has no test of the checkpoint `epoch_0007`" in done.err


def test_run_that_is_still_being_tested_is_reported_or_an_error(audiozen, here):
    tests = here / "exp/slow/test"
    os.utime(shutil.copytree(tests / "best_epoch_0001", tests / "best_epoch_0002.incomplete"))
    done = audiozen("compare", "exp/slow", "exp/fast_seed_1")
    assert done.code == 0
    assert "warning: the test `best_epoch_0002` of `exp/slow` is not complete" in done.err
    shutil.rmtree(tests / "best_epoch_0001")
    done = audiozen("compare", "exp/slow", "exp/fast_seed_1")
    assert done.code == 2
    assert "has only an incomplete test, so it has no results" in done.err


def test_test_set_of_the_same_ids_and_other_files_is_reported(audiozen, here):
    file = here / "exp/fast_seed_1/test/best_epoch_0001/0/scores.csv"
    lines = file.read_text().splitlines()
    place = lines[0].split(",").index("si_sdr_noisy")
    cells = lines[1].split(",")
    cells[place] = str(float(cells[place]) + 0.5)
    file.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    done = audiozen("compare", "exp/slow", "exp/fast_seed_1")
    assert "warning: slow and fast_seed_1 were tested with different files that have the same IDs: 1 of 4" in done.err


def test_run_of_another_rate_is_a_warning_that_names_both(audiozen, here):
    for name in ("scores.json", "scores.metrics.json"):
        file = here / "exp/fast_seed_1/test/best_epoch_0001/0" / name
        file.write_text(file.read_text().replace('"rate": 16000', '"rate": 48000'))
    done = audiozen("compare", "exp/slow", "exp/fast_seed_1")
    assert "warning: si_sdr: different rate: 16000 Hz in slow, 48000 Hz in fast_seed_1" in done.err


def test_the_same_run_twice_is_reported(audiozen, here):
    done = audiozen("compare", "exp/slow", "exp/slow")
    assert done.code == 0
    assert "warning: the scores of exp/slow and exp/slow (2) are identical, file by file" in done.err


def test_scores_of_evaluate_are_compared_by_condition_with_the_folders_of_the_audio(audiozen, here, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    names = ("a_snr_0", "b_snr_5", "c_snr_5")
    for number, (name, wave) in enumerate(write_enhanced(here, names).items()):
        write(here / "other" / f"{name}.wav", wave + noise(200 + number, level=0.1))
    for folder, out in (("enhanced", "one"), ("other", "two")):
        scored = ("--clean", "clean", "--metrics", "si_sdr", "--num-workers", "0")
        assert audiozen("evaluate", folder, *scored, "-o", out).code == 0
    done = audiozen("compare", "one", "two", "--by", "snr", "--files", "1")
    assert done.code == 0, done.err
    assert re.search(r"^0 +SI-SDR in dB ↑ +one", done.out, re.MULTILINE), done.out
    assert re.search(r"^audio of two: .*other$", done.out, re.MULTILINE), done.out


def test_csv_files_of_other_programs(audiozen, csvs):
    done = audiozen("compare", "ours=b.csv", "theirs=a.csv", "--by", "snr")
    assert done.code == 0, done.err
    assert "\nsnr " in done.out
    assert "pesq: the scores don't say whether higher or lower" in done.err
    (row,) = [line for line in done.out.splitlines() if line.split()[:1] == ["theirs"]]
    assert row.split()[1:3] == ["1.35", "-0.539"]
    assert "worse *" in row, "eight files of eight: p is 2 / 256"


def test_latex_is_alone_on_standard_output(audiozen, csvs):
    done = audiozen("compare", "a.csv", "b.csv", "--format", "latex", "-o", "out")
    assert done.out.startswith(r"\begin{table}")
    assert done.out.endswith("\\end{table}\n")
    assert "written: out/comparison.tex" in done.err


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["x_0.wav,0,good", "x_1.wav,0,2"], r"`edited.csv` has `good` as pesq of `x_0`, which is not a number"),
        (["x_0.wav,0,1", "x_0.wav,0,2"], "two rows for `x_0.wav`"),
        (["x_0.wav,0,1", "x_0.flac,0,2"], "two rows for `x_0`, with different extensions"),
        (["x_0.wav,0"], "2 cells, but the header has 3"),
        ([], "has no rows"),
        (["y_0.wav,0,1"], "no file in common"),
    ],
)
def test_csv_that_was_edited_by_hand_is_refused(csvs, lines, message):
    csvs("edited.csv", *lines)
    with pytest.raises(DataError, match=message):
        compare(["a.csv", "edited.csv"])


def test_scores_of_evaluate_that_were_edited_by_hand_are_refused(csvs, tmp_path):
    header = {"label": "PESQ", "unit": "", "higher_is_better": True, "path": "x"}
    (tmp_path / "scores.json").write_text(json.dumps({"kind": "evaluation", "metrics": {"pesq": header}}))
    csvs("scores.csv", "x_0,0,1.5", header="id,snr,stoi")
    with pytest.raises(DataError, match="has no column `pesq`; it has id, snr, stoi"):
        compare(["scores.csv", "a.csv"])
    csvs("scores.csv", "x_0,0,1.5o", header="id,snr,pesq")
    with pytest.raises(DataError, match=r"has `1.5o` as pesq of `x_0`, which is not a number"):
        compare(["scores.csv", "a.csv"])


def test_empty_and_infinite_cells_are_counted_and_not_averaged(csvs):
    csvs("gaps.csv", "x_0.wav,0,", "x_1.wav,5,inf", "x_2.wav,0,nan", "x_3.wav,5,2.3")
    found = compare(["a.csv", "gaps.csv"])
    assert found.difference("pesq", "gaps").files == 1
    assert found.difference("pesq", "gaps").mean == pytest.approx(1.0)
    assert [note for note in found.notes if "3 of 4 files have no value in gaps" in note]
    assert [note for note in found.notes if note.startswith("4 files are left out, because only a has them")]


def test_conditions_that_contradict_each_other_are_reported(csvs):
    csvs("c.csv", *(f"x_{number}.wav,0,{number}" for number in range(8)))
    found = compare(["a.csv", "c.csv"], by=["snr"])
    assert [note for note in found.notes if "4 files have a different `snr` in c than in a" in note]
    assert list(found.by["snr"]) == ["0", "5"]


def test_conditions_are_numbers_however_they_are_written(csvs):
    csvs("c.csv", *(f"x_{number}.wav,{number % 2 * 5}.0,{number}" for number in range(7)), "x_7.wav,unknown,2")
    found = compare(["c.csv", "a.csv"], by=["snr"])
    assert list(found.by["snr"]) == ["0", "5", "unknown"]
    assert [note for note in found.notes if "1 files have a different `snr` in a than in c" in note]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.csv"], "at least two systems"),
        (["a.csv", "nothing"], "`nothing` does not exist"),
        (["a.csv", "."], "has no scores"),
        (["a.csv", "b.csv", "--by", "voice"], "no file has the condition `voice`"),
        (["a.csv", "b.csv", "--metrics", "peqs"], "no system has the metric `peqs`"),
        (["a.csv", "b.csv", "-o", "a.csv"], "`a.csv` is not a folder"),
    ],
)
def test_mistake_on_the_command_line_is_an_error(audiozen, csvs, arguments, message):
    done = audiozen("compare", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_run_without_a_test_says_how_to_test_it(here):
    shutil.rmtree(here / "exp/slow/test")
    with pytest.raises(RunError, match="has no test") as caught:
        compare(["exp/slow", "exp/fast_seed_1"])
    assert "--mode test" in caught.value.remedy


def test_torch_is_not_imported(csvs):
    code = (
        "import sys; from audiozen_core.comparison.compare import compare; compare(['a.csv', 'b.csv']).table();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
