import json
import subprocess
import sys

import pytest

from audiozen_core.errors import RunError
from audiozen_core.results.samples import Sample, SampleSignal, read_samples, write_samples

SAMPLE = Sample(
    epoch=3,
    step=120,
    validation=3,
    best=True,
    dataset="0",
    id="a/b",
    sr=16000,
    begin=2.5,
    seconds=10.0,
    sheet="epoch_0003/0/a/b/spectrograms.png",
    signals={
        "noisy": SampleSignal("inputs/0/a/b/noisy.flac", from_dataset=True),
        "enhanced": SampleSignal("epoch_0003/0/a/b/enhanced.flac", gain_db=-1.5),
    },
)


@pytest.fixture
def run(tmp_path):
    for path in SAMPLE.paths:
        (tmp_path / "samples" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "samples" / path).touch()
    write_samples(tmp_path, [SAMPLE])
    return tmp_path


def test_samples_are_read_as_they_were_written(run):
    assert read_samples(run) == [SAMPLE]
    assert list(read_samples(run)[0].signals) == ["noisy", "enhanced"]


def test_a_run_without_samples_has_none(tmp_path):
    assert read_samples(tmp_path) == []


def test_files_that_were_deleted_are_left_out(run):
    (run / "samples" / SAMPLE.signals["noisy"].path).unlink()
    (sample,) = read_samples(run)
    assert list(sample.signals) == ["enhanced"]
    (run / "samples" / SAMPLE.sheet).unlink()
    assert read_samples(run) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: "{",
        lambda content: "[]",
        lambda content: json.dumps({**content, "samples": [{"epoch": 1}]}),
        lambda content: json.dumps(content).replace("inputs/0", "../../secret"),
        lambda content: json.dumps(content).replace("inputs/0", "/etc"),
    ],
)
def test_a_damaged_index_is_an_error_that_names_the_file(run, damage):
    path = run / "samples/samples.json"
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(RunError, match=r"samples/samples.json` can't be read") as error:
        read_samples(run)
    assert "delete this file" in error.value.remedy


def test_an_index_of_a_later_version_says_so(run):
    path = run / "samples/samples.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(RunError, match="newer version"):
        read_samples(run)


def test_a_title_names_a_data_set_that_has_a_name():
    assert SAMPLE.title == "a/b"
    assert Sample(**{**{name: getattr(SAMPLE, name) for name in Sample.__slots__}, "dataset": "dns"}).title == "dns/a/b"


def test_reading_imports_no_torch():
    code = "import sys, audiozen_core.results.samples; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
