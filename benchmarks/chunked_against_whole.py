"""Measures how much the output of a network changes if a long signal is enhanced in chunks instead of as a whole.

The signal consists of noisy clips of VoiceBank-DEMAND, one after the other, repeated to the length in the table. The
table shows the energy of the difference between both outputs, relative to the output for the whole signal, in dB.

    python benchmarks/chunked_against_whole.py REFERENCE [--networks "gtcrn;sdnn"]

REFERENCE is a folder with `vbdmd/noisy/*.wav`, `gtcrn/dns3.safetensors`, `sdnn/intel_ndns_baseline.safetensors` and
`spiking_fullsubnet/s.safetensors`. All other networks have random weights, drawn with the seed 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from audiozen import model as networks
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.audio.chunks import join_pieces
from audiozen_core.trainer.components import Components
from audiozen_plugins.trainer.enhancement import EnhancementTrainer
from audiozen_plugins.trainer.flow import FlowTrainer
from audiozen_plugins.trainer.separation import SeparationTrainer

CUMULATIVE = {"norm_type": "cumulative_laplace_norm"}


@dataclass(frozen=True)
class Case:
    """A network, its `[acoustics]`, its trainer, the file with its weights ("" for random ones), and the length of the
    signal.
    """

    make: Callable[[], nn.Module]
    acoustics: dict[str, Any] = field(default_factory=dict)
    trainer: type[EnhancementTrainer] = EnhancementTrainer
    weights: str = ""
    seconds: int = 150


SDNN_ACOUSTICS = {"n_fft": 512, "win_length": 512, "hop_length": 128, "window": "rectangular"}
SPIKING = "spiking_fullsubnet/s.safetensors"
BSRNN = {"n_fft": 320, "win_length": 320, "hop_length": 160}
CASES = {
    "crn": Case(networks.CRN, {"window": "sqrt_hann", "hop_length": 256}),
    "gtcrn": Case(networks.GTCRN, dict(networks.GTCRN.acoustics), weights="gtcrn/dns3.safetensors"),
    "ul_unas": Case(networks.ULUNAS, dict(networks.ULUNAS.acoustics)),
    "bsrnn, causal": Case(lambda: networks.BSRNN(features=16, num_blocks=3), BSRNN),
    "sdnn": Case(networks.SDNN, SDNN_ACOUSTICS, weights="sdnn/intel_ndns_baseline.safetensors"),
    "sdnn, carries_state": Case(
        lambda: networks.SDNN(carries_state=True), SDNN_ACOUSTICS, weights="sdnn/intel_ndns_baseline.safetensors"
    ),
    "spiking_fullsubnet, offline": Case(
        networks.SpikingFullSubNet, dict(networks.SpikingFullSubNet().acoustics), weights=SPIKING
    ),
    "spiking_fullsubnet, cumulative": Case(
        lambda: networks.SpikingFullSubNet(**CUMULATIVE), dict(networks.SpikingFullSubNet().acoustics), weights=SPIKING
    ),
    "bsrnn, offline": Case(lambda: networks.BSRNN(features=16, num_blocks=3, causal=False), BSRNN),
    "conv_tasnet": Case(
        lambda: networks.ConvTasNet(
            num_speakers=2, num_filters=128, kernel_size=32, bottleneck=64, hidden=128, num_layers=6, num_repeats=2
        ),
        trainer=SeparationTrainer,
    ),
    "dprnn": Case(
        lambda: networks.DPRNN(num_speakers=2, kernel_size=64, features=64, hidden=48, num_blocks=3, chunk_size=40),
        trainer=SeparationTrainer,
    ),
    "tf_gridnet": Case(
        lambda: networks.TFGridNet(num_speakers=2, features=16, num_blocks=2, hidden=32),
        {"n_fft": 256, "win_length": 256, "hop_length": 128},
        SeparationTrainer,
        seconds=30,
    ),
    "flow_net": Case(lambda: networks.FlowNet(channels=8, levels=4, blocks=6), trainer=FlowTrainer, seconds=90),
}


def output(case: Case, network: nn.Module, noisy: Tensor, **args: Any) -> Tensor:
    """Enhances the noisy signal with a trainer that gets the further arguments, and returns the output."""
    acoustics = Acoustics(**{"sr": 16000, **case.acoustics})
    trainer = case.trainer(Components({"": network}, acoustics=acoustics), metrics=[], **args)
    trainer.set_mode(training=False)
    with torch.no_grad():
        return join_pieces(trainer.enhance_blocks(noisy.split(160_000, dim=-1), ["a"]), noisy.shape[-1])


def difference(signal: Tensor, other: Tensor) -> str:
    """Returns the energy of the difference of two signals, relative to the energy of `other`, in dB."""
    if torch.equal(signal, other):
        return "equal"
    return f"{10 * torch.log10((signal - other).square().sum() / other.square().sum()).item():.0f} dB"


def main() -> None:
    """Prints a table with a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--networks", default=";".join(CASES), help="names of networks, separated by semicolons")
    arguments = parser.parse_args()
    clips = sorted((arguments.reference / "vbdmd" / "noisy").glob("*.wav"))
    speech = torch.cat([torch.from_numpy(soundfile.read(clip, dtype="float32")[0]) for clip in clips])
    print("| network | weights | length | by default | in chunks of 60 s | in chunks of 10 s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in arguments.networks.split(";"):
        case = CASES[name]
        torch.manual_seed(0)
        network = case.make().eval()
        if case.weights:
            network.load_state_dict(load_file(arguments.reference / case.weights))
        noisy = speech.repeat(-(-case.seconds * 16000 // len(speech)))[None, : case.seconds * 16000]
        whole = output(case, network, noisy, chunk_seconds=case.seconds + 10.0)
        cells = [difference(output(case, network, noisy), whole) if case.seconds > 60 else "equal (one chunk)"]
        cells.append(difference(output(case, network, noisy, chunk_seconds=60.0), whole) if case.seconds > 60 else "–")
        cells.append(difference(output(case, network, noisy, chunk_seconds=10.0), whole))
        weights = "published" if case.weights else "random"
        print(f"| {name} | {weights} | {case.seconds} s | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
