"""Runs networks from ONNX files of an installed package, without importing the package."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from audiozen_core.errors import MissingExtraError


class OnnxNetwork:
    """A network in a file of the package `speechmos`. The file is opened at the first call. The network runs on one CPU
    thread.

    Args:
        file: the path of the file in the package.
        needed_by: what needs the network, for error messages.

    Raises:
        MissingExtraError: speechmos or onnxruntime is not installed.
    """

    def __init__(self, file: str, *, needed_by: str) -> None:
        # The packages are located but not imported, so that training does not wait for the import. Besides, speechmos
        # imports librosa, but does not install it.
        for package in ("speechmos", "onnxruntime"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, extra="dnsmos", needed_by=needed_by)
        package_spec = importlib.util.find_spec("speechmos")
        assert package_spec is not None
        assert package_spec.origin is not None
        self.path = Path(package_spec.origin).parent / file
        self._session: Any = None

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the first output of the network."""
        if self._session is None:
            import onnxruntime  # type: ignore[import-not-found, unused-ignore]

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        result: np.ndarray = self._session.run(None, dict(inputs))[0]
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_session": None}  # a session can't be sent to another process
