"""Kernels for the CPU are used where numba works, and can be switched off."""

from __future__ import annotations

import errno
import importlib.util
import os
import sys

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from audiozen_plugins.kernels import on_cpu, on_gpu, soft_alignment_on_gpu
from audiozen_plugins.kernels.energies import band_energies
from audiozen_plugins.kernels.on_cpu import CpuKernel, cpu_kernel
from audiozen_plugins.kernels.plain_forms import without_kernels

DOUBLE = "def double(x):\n    for i in range(x.shape[0]):\n        x[i] *= 2\n"


@pytest.fixture
def untried(monkeypatch):
    """As in a process that has not looked for numba yet."""
    monkeypatch.setattr(on_cpu, "_numba_works", None)


def test_a_numba_that_can_not_be_imported_is_not_used_and_reported_once(untried, monkeypatch, tmp_path):
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text('raise ImportError("Numba needs NumPy 2.2 or less")\n')
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "numba"]:
        monkeypatch.delitem(sys.modules, name)
    with capture_logs() as logs:
        assert torch.equal(band_energies(torch.tensor([[1.0, 3.0]])), torch.tensor([5.0]))
        assert not CpuKernel.is_available()
    (warning,) = logs
    assert warning["log_level"] == "warning"
    assert "NumPy 2.2 or less" in warning["reason"]


def test_a_missing_numba_is_looked_for_once(untried, monkeypatch):
    asked = []
    monkeypatch.setattr(importlib.util, "find_spec", asked.append)
    with capture_logs() as logs:
        assert [CpuKernel.is_available() for _ in range(3)] == [False] * 3
    assert asked == ["numba"]
    assert not logs


def test_a_kernel_that_can_not_be_kept_is_compiled_without_a_cache(monkeypatch):
    pytest.importorskip("numba")
    on_cpu._say_that_nothing_is_kept.cache_clear()
    names: dict = {"__name__": "nowhere"}
    exec(DOUBLE, names)  # numba has no place for the code of a function without a file
    with capture_logs() as logs:
        for _ in range(2):
            x = np.ones(3, np.float32)
            cpu_kernel()(names["double"])(x)
            assert x.tolist() == [2, 2, 2]
    (warning,) = logs
    assert "NUMBA_CACHE_DIR" in warning["remedy"]


@pytest.mark.parametrize("damage", ["index", "code", "full disk"])
def test_a_kernel_whose_cache_is_damaged_is_compiled_without_it(monkeypatch, tmp_path, damage):
    pytest.importorskip("numba")
    assert CpuKernel.is_available()
    monkeypatch.setattr(CpuKernel, "uses_cache", True)
    on_cpu._say_that_nothing_is_kept.cache_clear()
    name = f"kernel_with_damaged_{damage.replace(' ', '_')}"
    (tmp_path / f"{name}.py").write_text(DOUBLE)
    monkeypatch.syspath_prepend(tmp_path)
    function = importlib.import_module(name).double
    cpu_kernel()(function)(np.ones(3, np.float32))
    files = list((tmp_path / "__pycache__").glob("*.nb?"))
    assert len(files) == 2
    if damage == "full disk":

        def full(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        caching = importlib.import_module("numba.core.caching")
        monkeypatch.setattr(caching.IndexDataCacheFile, "_save_index", full)
        for file in files:
            file.unlink()
    for file in files:
        if file.suffix == {"index": ".nbi", "code": ".nbc"}.get(damage):
            os.truncate(file, 20)
    x = np.ones(3, np.float32)
    with capture_logs() as logs:
        cpu_kernel()(function)(x)
    assert x.tolist() == [2, 2, 2]
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert "can't write or read its cache" in warning["event"]


def test_a_kernel_that_used_the_cache_before_is_compiled_without_it_too(monkeypatch, tmp_path):
    pytest.importorskip("numba")
    assert CpuKernel.is_available()
    monkeypatch.setattr(CpuKernel, "uses_cache", True)
    (tmp_path / "kernel_of_a_full_disk.py").write_text(DOUBLE)
    monkeypatch.syspath_prepend(tmp_path)
    kernel = cpu_kernel()(importlib.import_module("kernel_of_a_full_disk").double)
    kernel(np.ones(3, np.float32))

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    caching = importlib.import_module("numba.core.caching")
    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_index", full)
    CpuKernel.uses_cache = False  # another kernel has met the full disk
    x = np.ones(3, np.float64)
    kernel(x)
    assert x.tolist() == [2, 2, 2]


def test_only_the_first_compilation_is_reported(monkeypatch, tmp_path):
    pytest.importorskip("numba")
    assert CpuKernel.is_available()
    (tmp_path / "kernel_of_a_test.py").write_text(DOUBLE + DOUBLE.replace("double", "twice"))
    monkeypatch.syspath_prepend(tmp_path)
    import kernel_of_a_test

    kernels = []  # numba can't load the code of a module that does not exist, but finds that of a kernel that is alive

    def told(*functions):
        on_cpu._say_that_kernels_are_compiled.cache_clear()
        with capture_logs() as logs:
            for function in functions:
                kernels.append(cpu_kernel()(function))
                kernels[-1](np.ones(3, np.float32))
        return [entry["event"] for entry in logs]

    both = kernel_of_a_test.double, kernel_of_a_test.twice
    assert told(both[1]) == []  # somebody else's function
    for function in both:
        function.__module__ = "audiozen_plugins.kernels.of_a_test"
        function.__qualname__ += "_of_ours"
    assert told(*both) == ["compiling the kernels for the CPU; this happens once on this machine"]
    assert told(*both) == []  # numba has kept the code
    monkeypatch.delitem(sys.modules, "kernel_of_a_test")


def test_a_kernel_never_writes_into_a_copy():
    whole = torch.zeros(4, 4)
    on_cpu.to_write(whole)[0][0] = 1
    assert whole[0].tolist() == [1] * 4
    with pytest.raises(AssertionError, match="copy"):
        on_cpu.to_write(whole.mT[:, :2])
    assert on_cpu.to_read(whole.mT)[0].flags.c_contiguous


def test_kernels_can_be_switched_off(kernel_calls, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    device, x = torch.device("cpu"), torch.ones(2, 3)
    with without_kernels():
        with without_kernels():
            band_energies(x)
        band_energies(x)
        assert not CpuKernel.is_available()
        assert not on_gpu.is_available(device)
        assert not soft_alignment_on_gpu.is_available()
    assert not kernel_calls
    band_energies(x)
    assert kernel_calls == ["_energies"]
    assert on_gpu.is_available(device)
    assert soft_alignment_on_gpu.is_available()
