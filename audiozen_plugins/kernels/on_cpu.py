"""Kernels for the CPU, which numba compiles when they are first called (extra `fast`)."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Container
from functools import cached_property
from types import FunctionType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from audiozen_core.logging import get_logger
from audiozen_plugins.kernels.plain_forms import kernels_are_wanted

# Whether numba can be imported; None before the first attempt. `torch.compile` can trace a module variable.
_numba_works: bool | None = None


def _import_numba() -> bool:
    """Tries to import numba, once in each process."""
    global _numba_works  # noqa: PLW0603 - see its definition
    _numba_works = False
    if importlib.util.find_spec("numba") is None:
        return False
    try:
        events = importlib.import_module("numba.core.event")
    except Exception as error:  # for any error, because the plain forms compute the same without numba
        get_logger().warning(
            "numba is installed but can't be imported, so networks and losses use plain PyTorch, which takes longer",
            reason=f"{type(error).__name__}: {error}",
            remedy="install a numba that fits the installed NumPy and Python: `pip install -U numba`",
        )
        return False

    class Listener(events.Listener):  # type: ignore[misc, name-defined]
        def on_start(self, event: Any) -> None:
            if event.data["dispatcher"].py_func.__module__.startswith(f"{__package__}."):
                _say_that_kernels_are_compiled()

        def on_end(self, event: Any) -> None:
            pass

    # Numba sends this event only if its cache does not contain the machine code.
    events.register("numba:compile", Listener())
    _numba_works = True
    return True


@functools.cache
def _say_that_kernels_are_compiled() -> None:
    get_logger().info("compiling the kernels for the CPU; this happens once on this machine")


@functools.cache
def _say_that_nothing_is_kept() -> None:
    get_logger().warning(
        "the kernels for the CPU are compiled at each start, because numba can't write or read its cache",
        remedy="set the environment variable NUMBA_CACHE_DIR to a folder that can be written, or delete the files of "
        "the cache that are damaged",
    )


class CpuKernel:
    """A function of NumPy arrays that numba compiles when it is first called.

    Numba is imported at the first call, because its import takes half a second. Numba stores the machine code next to
    the module, so later processes don't compile again. If it can't write there, each process compiles.

    Args:
        function: the function to compile. It may call other kernels of its module.
        options: the options of `numba.njit`.
    """

    uses_cache = True  # False after numba's cache could not be read or written

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.function = function
        self.options = options
        self._compiled_with_cache = False

    @staticmethod
    def is_available() -> bool:
        """Whether kernels may be used, and numba works. If not, callers must use the plain form of the kernel."""
        return kernels_are_wanted() and (_import_numba() if _numba_works is None else _numba_works)

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        """The compiled function."""
        numba = importlib.import_module("numba")
        code, names = self.function.__code__, self.function.__globals__
        others = self._called()
        self._compiled_with_cache = CpuKernel.uses_cache
        # If the function calls other kernels, numba must find their compiled form.
        function = FunctionType(code, names | {name: kernel.compiled for name, kernel in others.items()})
        function.__module__, function.__qualname__ = self.function.__module__, self.function.__qualname__
        compiled: Callable[..., Any]
        try:
            compiled = numba.njit(cache=CpuKernel.uses_cache, nogil=True, **self.options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _say_that_nothing_is_kept()
            compiled = numba.njit(nogil=True, **self.options)(function)
        return compiled

    def __call__(self, *args: Any) -> Any:
        """Calls the compiled function."""
        try:
            return self.compiled(*args)
        except Exception as error:
            if not self._compiled_with_cache or not _is_error_of_the_cache(error):
                raise
            _say_that_nothing_is_kept()
            CpuKernel.uses_cache = False
            self._forget()
            return self.compiled(*args)

    def _forget(self) -> None:
        """Forgets the compiled function, and those that it calls."""
        vars(self).pop("compiled", None)
        for kernel in self._called().values():
            kernel._forget()

    def _called(self) -> dict[str, CpuKernel]:
        """Returns the kernels that the function calls, by name."""
        code, names = self.function.__code__, self.function.__globals__
        return {name: names[name] for name in code.co_names if isinstance(names.get(name), CpuKernel)}


def _is_error_of_the_cache(error: Exception) -> bool:
    """Whether a power cut has damaged numba's cache, or its disk is full. Kernels themselves raise no such errors."""
    return isinstance(error, OSError | EOFError) or type(error).__name__ == "UnpicklingError"


def cpu_kernel(**options: Any) -> Callable[[Callable[..., Any]], CpuKernel]:
    """Marks a function as a kernel that numba compiles, with the options of `numba.njit`."""
    return lambda function: CpuKernel(function, **options)


fast_sums = cpu_kernel(fastmath={"contract", "nsz", "reassoc"}, error_model="numpy")
"""Marks a kernel whose sums may be added in any order. The compiler can vectorise such sums."""


def to_read(*tensors: Tensor) -> list[NDArray[Any]]:
    """Returns the tensors that a kernel reads as contiguous NumPy arrays. Tensors that are not contiguous are copied.

    For the backward pass, save the original tensors and not these arrays, because autograd can't follow a copy.
    """
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def to_write(*tensors: Tensor) -> list[NDArray[Any]]:
    """Returns the tensors that a kernel writes as NumPy arrays that share their memory. They must be contiguous."""
    assert all(tensor.is_contiguous() for tensor in tensors), "a kernel would write into a copy"
    return [tensor.detach().numpy() for tensor in tensors]


def can_compute(*tensors: Tensor, dtypes: Container[torch.dtype] = (torch.float32, torch.float64)) -> bool:
    """Whether a kernel for the CPU can compute with these tensors."""
    return all(x.is_cpu and x.dtype in dtypes for x in tensors) and CpuKernel.is_available()


def fits_cpu_kernel(*tensors: Tensor) -> bool:
    """Whether a kernel for float32 can compute with these tensors, and nothing needs to see PyTorch's own operations.

    A compiler, an export, `torch.autocast`, a transform of `torch.func` (such as `grad` or `vmap`), and a counter of
    operations need to see PyTorch's own operations.
    """
    return (
        all(type(x) in (Tensor, nn.Parameter) for x in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and not is_in_torch_dispatch_mode()
        and torch._C._functorch.peek_interpreter_stack() is None
        and can_compute(*tensors, dtypes=(torch.float32,))
    )


def is_watched(*modules: nn.Module) -> bool:
    """Whether a hook of PyTorch is registered for one of the modules or for all modules.

    Such a hook must see each call of the module, and may change its inputs or outputs. A kernel reads the weights of a
    module without calling it, so the kernel must not be used for a module with hooks.
    """
    any_module: bool = torch_modules._has_any_global_hook()  # type: ignore[no-untyped-call]
    return any_module or any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        for module in modules
    )


def fused(function: type[torch.autograd.Function], *args: Any) -> Any:
    """Calls a kernel that is defined as an `autograd.Function`."""
    return function.apply(*args)  # type: ignore[no-untyped-call]


def gradients_of_plain(plain: Callable[..., Any], args: tuple[Any, ...], grads: tuple[Tensor | None, ...]) -> Any:
    """Returns the gradients of a kernel, computed with its plain form, so that they can be differentiated again.

    Args:
        plain: computes the same as the kernel, with PyTorch.
        args: the arguments of the kernel. For arguments that are not tensors, the gradient is None.
        grads: the gradients with respect to the outputs of the kernel.
    """
    with torch.enable_grad():
        # If one argument was computed from another, its gradient must not flow on to the other one. Views prevent this.
        args = tuple(x.view_as(x) if isinstance(x, Tensor) and x.requires_grad else x for x in args)
        outputs = plain(*args)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    pairs = [(out, grad) for out, grad in zip(outputs, grads, strict=True) if grad is not None]
    wanted = [x for x in args if isinstance(x, Tensor) and x.requires_grad]
    gradients = iter(
        torch.autograd.grad(
            [out for out, _ in pairs], wanted, [grad for _, grad in pairs], create_graph=True, allow_unused=True
        )
    )
    return tuple(next(gradients) if isinstance(x, Tensor) and x.requires_grad else None for x in args)
