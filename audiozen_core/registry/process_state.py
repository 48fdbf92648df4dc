"""Saves and restores the process state that a run depends on, such as the working directory and random generators.

If the import of an installed component changes the state, the change is undone. A run then does not depend on which
plugins are imported, or in which order.
"""

from __future__ import annotations

import _locale
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

# Environment variables that Python, torch or AudioZEN reads. A library may set any other variable for its own use.
_READ_BY_A_RUN = re.compile(r"(AUDIOZEN|CUBLAS|CUDA|CUDNN|LC|MKL|NCCL|OMP|OPENBLAS|PYTHON|PYTORCH|TORCH)_|LANG$|TZ$")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Importing rich, as many libraries do, draws a random number from Python's generator. This change is undone, but not
# reported.
_RANDOM, _DRAWS = "Python's random numbers", "rich.style"


@dataclass(frozen=True, slots=True)
class StatePart:
    """One part of the process state.

    Attributes:
        name: a description of the part, for messages.
        read: a function that returns the value.
        write: a function that restores a value that `read` returned.
        module: the module that holds this part of the state. The part does not exist until the module is imported.
        initial: a function that returns the value right after the import of the module, or None if the value is
            unknown.
        same: a function that compares two values.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    module: str = "os"
    initial: Callable[[], Any] = lambda: None
    same: Callable[[Any, Any], bool] = lambda one, other: bool(one == other)


def read_process_state() -> dict[str, Any]:
    """Returns the values of all parts, by name. Parts whose module is not imported are left out."""
    state = {part.name: part.read() for part in PARTS if part.module in sys.modules}
    return {**state, _DRAWS: _DRAWS in sys.modules}


def restore_process_state(before: Mapping[str, Any]) -> tuple[str, ...]:
    """Restores a state that `read_process_state` returned, and returns the names of the parts that had changed."""
    changed = []
    for part in PARTS:
        if part.module not in sys.modules:
            continue
        value = before[part.name] if part.name in before else part.initial()
        if value is not None and not part.same(part.read(), value):
            part.write(value)
            if part.name != _RANDOM or before[_DRAWS] or _DRAWS not in sys.modules:
                changed.append(part.name)
    return tuple(changed)


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - quicker
    except FileNotFoundError:
        return None


def _write_environment(before: dict[str, str]) -> None:
    for name in set(os.environ) - set(before):
        if _READ_BY_A_RUN.match(name):
            del os.environ[name]
    os.environ.update(before)


def _same_environment(now: dict[str, str], before: dict[str, str]) -> bool:
    added = now.keys() - before.keys()
    return before.items() <= now.items() and not any(map(_READ_BY_A_RUN.match, added))


def _write_filters(before: list[Any]) -> None:
    added = [entry for entry in warnings.filters if entry not in before and not _is_for_all_modules(entry)]
    warnings.filters[:] = [*added, *before]  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _same_filters(now: list[Any], before: list[Any]) -> bool:
    return list(filter(_is_for_all_modules, now)) == list(filter(_is_for_all_modules, before))


def _is_for_all_modules(entry: Any) -> bool:
    """Returns whether a warning filter applies to all modules. A library may add filters for its own warnings only."""
    _, message, category, module, _ = entry
    return message is None and module is None and category.__module__ == "builtins"


def _write_search_path(before: list[str]) -> None:
    # New entries move to the end of the path, where a plugin can still import its own modules, but can't hide other
    # modules.
    sys.path[:] = [*before, *(entry for entry in sys.path if entry not in before)]


def _finders() -> list[list[Any]]:
    return [list(sys.meta_path), list(sys.path_hooks)]


def _same_finders(now: list[list[Any]], before: list[list[Any]]) -> bool:
    """Returns whether all earlier finders are still present, in order. Libraries may add their own finders."""
    return all([each for each in found if each in known] == known for found, known in zip(now, before, strict=True))


def _write_finders(before: list[list[Any]]) -> None:
    lists: tuple[list[Any], list[Any]] = (sys.meta_path, sys.path_hooks)
    for found, known in zip(lists, before, strict=True):
        found[:] = [*(each for each in found if each not in known), *known]


def _write_streams(before: tuple[Any, Any, Any]) -> None:
    sys.stdin, sys.stdout, sys.stderr = before


def _write_excepthook(before: Any) -> None:
    sys.excepthook = before


def _write_signals(before: list[Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in zip(_SIGNALS, before, strict=True):
            if handler is not None:  # None stands for a handler that was not installed from Python
                signal.signal(number, handler)


def _random() -> Any:
    return sys.modules["random"]


def _numpy() -> Any:
    return sys.modules["numpy"].random


def _torch() -> Any:
    return sys.modules["torch"]


def _write_device(before: Any) -> None:
    # With None, the default device is the CPU. "cpu" would be the same device, but would install a device mode that
    # slows down every call.
    _torch().set_default_device(None if before.type == "cpu" else before)


def _write_benchmark(before: bool) -> None:
    _torch().backends.cudnn.benchmark = before


def _read_autocast() -> list[tuple[str, bool, Any]]:
    torch = _torch()
    return [(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")]


def _initial_autocast() -> list[tuple[str, bool, Any]]:
    torch = _torch()
    return [("cpu", False, torch.bfloat16), ("cuda", False, torch.float16)]


def _write_autocast(before: list[tuple[str, bool, Any]]) -> None:
    for kind, enabled, dtype in before:
        _torch().set_autocast_enabled(kind, enabled)
        _torch().set_autocast_dtype(kind, dtype)


def _torch_setting(name: str, getter: str, setter: str, initial: Callable[[], Any] = lambda: None) -> StatePart:
    """Returns a part that one function of torch reads and another function writes."""

    def read() -> Any:
        return getattr(_torch(), getter)()

    def write(value: Any) -> None:
        getattr(_torch(), setter)(value)

    return StatePart(name, read, write, "torch", initial)


PARTS = (
    StatePart("the working directory", _working_directory, os.chdir),
    StatePart("the environment", lambda: dict(os.environ), _write_environment, same=_same_environment),
    StatePart(
        "the locale", lambda: _locale.setlocale(_locale.LC_ALL, None), partial(_locale.setlocale, _locale.LC_ALL)
    ),
    StatePart(
        "the search path for modules",
        lambda: list(sys.path),
        _write_search_path,
        same=lambda now, before: now[: len(before)] == before,
    ),
    StatePart("the finders of modules", _finders, _write_finders, same=_same_finders),
    StatePart("the standard streams", lambda: (sys.stdin, sys.stdout, sys.stderr), _write_streams),
    StatePart("how uncaught exceptions are shown", lambda: sys.excepthook, _write_excepthook),
    StatePart("the filters of warnings", lambda: list(warnings.filters), _write_filters, same=_same_filters),
    StatePart("signal handlers", lambda: [signal.getsignal(number) for number in _SIGNALS], _write_signals),
    StatePart(_RANDOM, lambda: _random().getstate(), lambda value: _random().setstate(value), "random"),
    StatePart(
        "NumPy's random numbers",
        lambda: _numpy().get_state(),
        lambda value: _numpy().set_state(value),
        "numpy.random",
        same=lambda one, other: one[1].tobytes() == other[1].tobytes() and one[2:] == other[2:],
    ),
    StatePart(
        "NumPy's floating-point errors",
        lambda: dict(sys.modules["numpy"].geterr()),
        lambda value: sys.modules["numpy"].seterr(**value),
        "numpy",
    ),
    StatePart(
        "torch's random numbers",
        lambda: _torch().get_rng_state(),
        lambda value: _torch().set_rng_state(value),
        "torch",
        same=lambda one, other: bool(one.equal(other)),
    ),
    _torch_setting("torch's default type", "get_default_dtype", "set_default_dtype", lambda: _torch().float32),
    StatePart("torch's default device", lambda: _torch().get_default_device(), _write_device, "torch"),
    _torch_setting("torch's number of threads", "get_num_threads", "set_num_threads"),
    _torch_setting(
        "torch's precision", "get_float32_matmul_precision", "set_float32_matmul_precision", lambda: "highest"
    ),
    _torch_setting("whether torch records gradients", "is_grad_enabled", "set_grad_enabled", lambda: True),
    _torch_setting(
        "whether torch is deterministic",
        "are_deterministic_algorithms_enabled",
        "use_deterministic_algorithms",
        lambda: False,
    ),
    StatePart("torch's mixed precision", _read_autocast, _write_autocast, "torch", _initial_autocast),
    StatePart("whether cuDNN tries algorithms", lambda: _torch().backends.cudnn.benchmark, _write_benchmark, "torch"),
)
"""All parts of the process state. Random generators are included, because a notebook may not seed them as a run
does."""
