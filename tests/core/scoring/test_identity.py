"""Each score carries what defines it: the code, the packages, the weights, the settings and the rate."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from audiozen.metric import SiSdr, Stoi
from audiozen_core.errors import MissingExtraError
from audiozen_core.scoring.chosen import build_metric
from audiozen_core.scoring.identity import identity_of
from audiozen_core.scoring.over_speakers import MeanOverSpeakers
from audiozen_core.scoring.rating import RatedFile
from audiozen_core.scoring.report import Report
from tests.core.scoring.shown import shown


class Own:
    """A metric of a recipe, with a file of weights and settings."""

    name, label, unit, higher_is_better = "own", "OWN", "dB", False

    def __init__(self, path: Path, window: int = 3, other: object = None):
        self.weights, self.window, self.other = (path,), window, object()


def version(name):
    return importlib.metadata.version(name)


def test_identity_has_everything_that_defines_a_value():
    found = identity_of(Stoi(extended=True), 16000)
    assert found.to_json() == {
        "name": "estoi",
        "label": "ESTOI",
        "unit": "",
        "higher_is_better": True,
        "path": "audiozen_plugins.metric.stoi.Stoi",
        "packages": {"audiozen": version("audiozen"), "pystoi": version("pystoi")},
        "code": "",
        "weights": {},
        "settings": {"extended": True},
        "rate": 10000,
        "mean_over_speakers": False,
    }
    assert (
        found.line() == f"ESTOI: extended = true; audiozen {version('audiozen')}, pystoi {version('pystoi')}; 10000 Hz"
    )


def test_identity_of_a_metric_outside_distributions_has_the_hashes_of_its_file_and_weights(tmp_path):
    weights = tmp_path / "net.onnx"
    weights.write_bytes(b"first")
    found = identity_of(Own(weights), 8000)
    assert found.code == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert found.weights == {"net.onnx": hashlib.sha256(b"first").hexdigest()}
    assert (found.packages, found.settings, found.rate) == ({}, {"window": 3}, 8000)
    weights.write_bytes(b"other weights")
    assert identity_of(Own(weights), 8000).weights == {"net.onnx": hashlib.sha256(b"other weights").hexdigest()}


def test_digest_differs_in_whatever_changes_a_value(tmp_path):
    weights = tmp_path / "net.onnx"
    weights.write_bytes(b"first")
    first = [identity_of(SiSdr(), 16000), identity_of(Own(weights), 16000)]
    assert [found.digest() for found in first] == [
        identity_of(SiSdr(), 16000).digest(),
        identity_of(Own(weights), 16000).digest(),
    ]
    weights.write_bytes(b"second")
    others = [
        identity_of(SiSdr(), 8000),
        identity_of(SiSdr(zero_mean=False), 16000),
        identity_of(MeanOverSpeakers(SiSdr()), 16000),
        identity_of(Own(weights), 16000),
        identity_of(Own(weights, 4)),
    ]
    assert len({found.digest() for found in (*first, *others)}) == 7


class Forwards(Own):
    def __init__(self, path: Path, **kwargs):
        super().__init__(path, **kwargs)


def test_settings_that_a_class_passes_to_its_base_class_are_part_of_the_identity(tmp_path):
    weights = tmp_path / "net.onnx"
    weights.write_bytes(b"first")
    found = [identity_of(Forwards(weights, window=window)) for window in (3, 4)]
    assert [each.settings for each in found] == [{"window": 3}, {"window": 4}]
    assert found[0].digest() != found[1].digest()


def test_identity_of_a_mean_over_speakers_is_that_of_the_metric():
    found, inner = identity_of(MeanOverSpeakers(Stoi()), 8000), identity_of(Stoi(), 8000)
    assert found.mean_over_speakers
    assert found.to_json() == inner.to_json() | {"mean_over_speakers": True}


def test_metric_of_torchmetrics_is_named_with_its_version():
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    found = identity_of(build_metric({"path": "torchmetrics.audio.SignalNoiseRatio"}), 16000)
    assert found.path.endswith(".SignalNoiseRatio")
    assert found.packages == {"torchmetrics": version("torchmetrics")}


def test_scores_of_a_test_carry_the_identities(tmp_path):
    rows = [RatedFile("a", {"noisy": {"si_sdr": 1.0, "stoi": 0.5}, "enhanced": {"si_sdr": 2.0, "stoi": 0.6}})]
    report = Report([SiSdr(), Stoi()], rows, sr=16000)
    wanted = {"si_sdr": identity_of(SiSdr(), 16000).to_json(), "stoi": identity_of(Stoi(), 16000).to_json()}
    assert json.loads(report.write_json(tmp_path / "scores.json").read_text())["metrics"] == wanted
    table = report.write_csv(tmp_path / "scores.csv")
    assert json.loads((tmp_path / "scores.metrics.json").read_text()) == wanted
    assert next(csv.DictReader(table.open()))["stoi_enhanced"] == "0.6"
    text = shown(report)
    assert f"SI-SDR: zero_mean = true; audiozen {version('audiozen')}; 16000 Hz" in text
    assert identity_of(Stoi(), 16000).line() in text


def test_identity_imports_no_package_of_the_metric():
    code = """
import sys
from audiozen_core.errors import MissingExtraError
from audiozen_core.scoring.chosen import build_metric
from audiozen_core.scoring.identity import identity_of
print(identity_of(build_metric("stoi"), 16000).packages["pystoi"])
print([name for name in ("pystoi", "scipy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == version("pystoi")
    assert "scipy" not in done.stdout
    assert "'pystoi'" not in done.stdout


def test_value_of_a_report_without_a_rate_has_none():
    assert Report([SiSdr()], []).to_json()["metrics"]["si_sdr"]["rate"] is None


@pytest.mark.parametrize(
    ("name", "path", "args"),
    [
        ("estoi", "stoi", {"extended": True}),
        ("pesq_nb", "pesq", {"mode": "nb"}),
        ("word_error_rate_clean", "word_error_rate", {"against": "clean"}),
    ],
)
def test_name_for_some_arguments_has_the_identity_of_the_metric_with_these_arguments(name, path, args):
    """Otherwise a test with one and an evaluation with the other would seem to be computed in different ways."""
    try:
        named = build_metric(name)
    except MissingExtraError as missing:
        pytest.skip(missing.message)
    assert named.name == name
    assert identity_of(named, 16000) == identity_of(build_metric({"path": path, "args": args}), 16000)
    assert identity_of(named, 16000) != identity_of(build_metric(path), 16000)
    derived = type("Derived", (type(named),), {"__module__": type(named).__module__})()
    assert identity_of(derived, 16000).path.endswith("Derived"), "it may compute something else"


def test_line_for_people_counts_many_files_of_weights(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]))
    metric = Own(tmp_path / "0.bin")
    metric.weights = tuple(tmp_path / f"{number}.bin" for number in range(3))
    line = identity_of(metric).line()
    assert "; 3 weight files " in line
    assert "0.bin" not in line
    (tmp_path / "2.bin").write_bytes(b"other")
    assert identity_of(metric).line() != line
