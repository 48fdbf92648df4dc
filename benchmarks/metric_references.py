"""Computes metrics with other implementations. tests/plugins/metric/test_references.py compares AudioZEN with them.

    python benchmarks/metric_references.py CMGAN PYSEPM CLIPS tests/plugins/metric/references.json

CMGAN and PYSEPM are checkouts of github.com/ruizhecao96/CMGAN and github.com/schmiph2/pysepm. CLIPS is a folder with
the folders `noisy` and `clean`. Only the file qualityMeasures.py of pysepm is used. It needs numba, and this script
defines `np.NaN` for it. The script also needs speechmos, which needs librosa and requests. No code of these packages is
part of AudioZEN.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import soundfile


def main(cmgan: Path, pysepm: Path, clips: Path, target: Path) -> None:
    """Computes the metrics of all noisy files, with the clean files as references, and writes them to `target`."""
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(cmgan / "src/tools"))
    composite = importlib.import_module("compute_metrics").compute_metrics
    measures = measures_of(pysepm)
    values: dict[str, dict[str, float]] = {}
    for path in sorted((clips / "noisy").glob("*.wav")):
        (noisy, sr), (clean, _) = (soundfile.read(clips / kind / path.name) for kind in ("noisy", "clean"))
        pesq, csig, cbak, covl, ssnr, _ = composite(clean, noisy, sr, 0)
        of_pysepm = dict(zip(("csig", "cbak", "covl"), map(float, measures.composite(clean, noisy, sr)), strict=True))
        values[path.stem] = {
            **{"pesq": pesq, "csig": csig, "cbak": cbak, "covl": covl, "segmental_snr": float(ssnr)},
            "frequency_weighted_snr": float(measures.fwSNRseg(clean, noisy, sr)),
            **{f"pysepm_{name}": value for name, value in of_pysepm.items()},
        }
    for stem in list(values)[:1]:
        values[stem] |= of_networks(*(clips / kind / f"{stem}.wav" for kind in ("noisy", "clean")))
    origin = {"CMGAN": commit(cmgan), "pysepm": commit(pysepm), "speechmos": "0.0.1.1", "numpy": np.__version__}
    target.write_text(json.dumps({"origin": origin, "values": values}, indent=1) + "\n")


def measures_of(pysepm: Path) -> types.ModuleType:
    """Imports only the module `qualityMeasures`, because the whole package needs another package that PyPI lacks."""
    package = types.ModuleType("pysepm")
    package.__path__ = [str(pysepm / "pysepm")]
    sys.modules["pysepm"] = package
    np.NaN = np.nan  # type: ignore[attr-defined]
    return importlib.import_module("pysepm.qualityMeasures")


def of_networks(noisy: Path, clean: Path) -> dict[str, float]:
    """Returns the values of speechmos. AECMOS also needs a far-end signal: the clean file, reversed in time."""
    from speechmos import aecmos, dnsmos, plcmos

    wave, sr = soundfile.read(noisy, dtype="float32")
    other, _ = soundfile.read(clean, dtype="float32")
    rated = dnsmos.run(wave, sr)
    np.random.seed(0)
    values = {
        "dnsmos": rated["ovrl_mos"],
        "dnsmos_sig": rated["sig_mos"],
        "dnsmos_bak": rated["bak_mos"],
        "dnsmos_p808": rated["p808_mos"],
        "plcmos": plcmos.run(wave, sr)["plcmos"],
    }
    sample = {"lpb": other[::-1].copy(), "mic": wave, "enh": other}
    for talk in (None, "dt"):
        found = aecmos.run(sample, sr, talk_type=talk)
        ending = "_double" if talk else ""
        values |= {f"aecmos_echo{ending}": found["echo_mos"], f"aecmos_degradation{ending}": found["deg_mos"]}
    return {name: float(value) for name, value in values.items()}


def commit(checkout: Path) -> str:
    """Returns the commit hash of a git checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
