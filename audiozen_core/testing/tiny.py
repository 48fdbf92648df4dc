"""A small experiment on generated audio, for tests. It runs in about a second."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiozen_core import logging
from audiozen_core.audio.writing import write_audio
from audiozen_core.config.toml.emit import emit
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.kinds import RunMode
from audiozen_core.storage.atomic import write_whole
from audiozen_core.testing.recorder import HookRecorder

RATE = 16000


def write_pairs(folder: Path, count: int = 4, *, seconds: float = 0.5, sr: int = RATE) -> None:
    """Writes tones with and without noise as `noisy/clip_0.wav`, `clean/clip_0.wav`, … The contents are deterministic.

    Args:
        folder: the folder in which `noisy` and `clean` are created.
        count: the number of clips.
        seconds: the length of each clip.
        sr: the sample rate in hertz.
    """
    generator = np.random.default_rng(0)
    times = np.arange(round(seconds * sr)) / sr
    for index in range(count):
        clean = 0.2 * np.sin(2 * math.pi * (130 + 75 * index) * times)
        noisy = clean + 0.05 * generator.standard_normal(len(times))
        for kind, wave in (("clean", clean), ("noisy", noisy)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_audio(folder / kind / f"clip_{index}.wav", torch.from_numpy(wave).float(), sr)


_VALUES: dict[str, Any] = {
    "meta": {"save_dir": "exp", "seed": 1, "num_threads": 1, "device": "cpu"},
    "acoustics": {"sr": RATE, "n_fft": 128, "win_length": 128, "hop_length": 64},
    "trainer": {"path": "enhancement", "args": {"max_epochs": 2, "metrics": ["si_sdr"]}},
    "model": {"path": "sdnn", "args": {"num_freqs": 65, "hidden_size": 8, "max_delay": 4}},
    "loss_function": {"path": "torch.nn.L1Loss", "args": {}},
    "optimizer": {"path": "torch.optim.Adam", "args": {"lr": 1e-3}},
    "dataset": {
        "path": "noisy_clean_folders",
        "args": {"noisy_dir": "noisy", "clean_dir": "clean", "clip_seconds": 0.125},
        "dataloader": {"batch_size": 2},
    },
    **{
        role: {"path": "noisy_clean_folders", "args": {"noisy_dir": "noisy", "clean_dir": "clean"}}
        for role in ("validate_dataset", "test_dataset")
    },
    "predict_dataset": {"path": "audio_folder", "args": {"folder": "noisy"}},
    # Importing TensorBoard takes longer than the run, and so does drawing the spectrograms of the samples.
    "hooks": [{"path": name, "enabled": False} for name in ("tensorboard", "samples")],
}


@dataclass(slots=True)
class TinyRun:
    """The results of a run.

    Attributes:
        folder: the run folder.
        hooks: the calls of all hooks.
    """

    folder: Path
    hooks: HookRecorder

    @property
    def checkpoints(self) -> list[str]:
        """The names of the checkpoints."""
        return sorted(path.name for path in (self.folder / "checkpoints").glob("epoch_*"))

    def metrics(self, name: str) -> list[float]:
        """Returns the values of one scalar, such as `train/loss`, in the order of `metrics.jsonl`."""
        lines = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [record[name] for record in map(json.loads, lines) if name in record]


@dataclass(slots=True)
class TinyExperiment:
    """A small speech enhancement experiment with four clips of 0.25 seconds and a network with a few hundred weights.

    Attributes:
        folder: the folder of its TOML file, its audio and its runs.
        values: the contents of the TOML file, which you can change before `run`.
    """

    folder: Path
    values: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(_VALUES))

    def __post_init__(self) -> None:
        write_pairs(self.folder, seconds=0.25)
        self.values["meta"]["save_dir"] = str(self.folder / "exp")
        for section in (table for table in self.values.values() if isinstance(table, dict)):
            for name in ("noisy_dir", "clean_dir", "folder"):
                if name in section.get("args", {}):
                    section["args"][name] = str(self.folder / section["args"][name])

    @property
    def file(self) -> Path:
        """The TOML file; each `run` overwrites it."""
        return self.folder / "tiny.toml"

    def set(self, section: str, path: str | None = None, **args: Any) -> TinyExperiment:
        """Changes a section; a new `path` removes the arguments of the old component.

        Args:
            section: the section, such as `model` or `trainer`.
            path: the new component; None keeps the component.
            args: the arguments to add or to change.
        """
        table = self.values.setdefault(section, {"args": {}})
        if path is not None and path != table.get("path"):
            table |= {"path": path, "args": {}}
        table.setdefault("args", {}).update(args)
        return self

    def add_hook(self, path: str, **args: Any) -> TinyExperiment:
        """Adds an entry to `[[hooks]]`."""
        self.values["hooks"].append({"path": path, "args": args})
        return self

    def write(self) -> Path:
        """Writes the TOML file and returns its path."""
        write_whole(self.file, emit(self.values))  # several ranks of a run may write the file at the same time
        return self.file

    def run(
        self,
        *modes: RunMode,
        resume: bool = False,
        ckpt_path: str | None = None,
        weights: str | None = None,
        hooks: HookRecorder | None = None,
    ) -> TinyRun:
        """Checks the experiment and runs it in this process.

        Args:
            modes: the modes to run, in order; by default `train`.
            resume: whether to continue the existing run.
            ckpt_path: the checkpoint, as in `audiozen run --ckpt-path`.
            weights: the weights to evaluate, as in `audiozen run --weights`.
            hooks: the recorder of the calls. Pass your own recorder to see the calls of a run that ends with an error.

        Raises:
            AudioZenError: the error that `audiozen run` would print.
        """
        modes = modes or ("train",)
        logging.configure()
        loaded = Experiment.load(self.write(), modes=modes)
        experiment = _Recorded(loaded, hooks or HookRecorder())
        experiment.run(resume=resume, ckpt_path=ckpt_path, weights=weights)
        return TinyRun(experiment.folder, experiment.recorder)


class _Recorded(Experiment):
    """An experiment with the recorder as an additional hook plugin."""

    def __init__(self, loaded: Experiment, recorder: HookRecorder) -> None:
        super().__init__(loaded.checked, loaded.modes)
        self.recorder = recorder

    def lifecycle(self) -> Lifecycle:
        """Returns the hooks of the file, and the recorder."""
        plugins = [*super().lifecycle().plugins, Plugin("recorder", self.recorder, "test kit")]
        return Lifecycle(plugins, is_main=self.ranks.is_main)
