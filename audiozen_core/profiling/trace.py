"""A trace of some steps, for https://ui.perfetto.dev: every operation, and the parts of a step and hooks by name."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from audiozen_core.storage.atomic import write_whole

_LARGE = 8 * 2**20
_NAMES = ("trace.json", "trace.json.gz")


class Trace:
    """Records what torch does between `start` and `stop`.

    Args:
        device: where the networks are.
    """

    def __init__(self, device: torch.device) -> None:
        # Otherwise the profiler prints the times of its own start and end.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities)

    def start(self) -> None:
        """Begins."""
        self._profile.start()

    def stop(self) -> None:
        """Ends. Waits for the GPU."""
        self._profile.stop()

    def write(self, folder: Path) -> Path:
        """Writes `trace.json`, or `trace.json.gz` if it is large, in the place of an earlier one. Returns the file.

        Raises:
            OSError: it can't be written; an earlier one is unchanged.
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
