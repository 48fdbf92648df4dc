"""Records a trace of a few steps for https://ui.perfetto.dev, with all operations, parts of a step and hooks."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from audiozen_core.storage.atomic import write_whole

_LARGE = 8 * 2**20  # bytes; a larger trace is compressed
_NAMES = ("trace.json", "trace.json.gz")


class ProfilerTrace:
    """Records what torch does between `start` and `stop`.

    Args:
        device: the device of the networks.
    """

    def __init__(self, device: torch.device) -> None:
        # Without this variable, the profiler prints messages when it starts and stops.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities)

    def start(self) -> None:
        """Starts the recording."""
        self._profile.start()

    def stop(self) -> None:
        """Stops the recording. Waits for the GPU."""
        self._profile.stop()

    def write(self, folder: Path) -> Path:
        """Writes `trace.json`, or `trace.json.gz` if the trace is large, and replaces an earlier trace in the folder.

        Returns:
            The path of the file.

        Raises:
            OSError: the file can't be written. An earlier trace is left unchanged.
        """
        with tempfile.TemporaryDirectory(prefix="audiozen-") as scratch:
            plain = Path(scratch) / "trace.json"
            self._profile.export_chrome_trace(str(plain))
            file = folder / _NAMES[plain.stat().st_size > _LARGE]
            pack = gzip.compress if file.suffix == ".gz" else bytes
            write_whole(file, pack(plain.read_bytes()))
        for other in _NAMES:
            if other != file.name:
                (folder / other).unlink(missing_ok=True)
        return file
