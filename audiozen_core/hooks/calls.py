"""Wraps hook implementations: an error names the plugin that raised it, and no wrapper swallows an error."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator
from typing import Any

from audiozen_core.errors import AudioZenError, HookError


def named_call(function: Callable[..., Any], plugin: object, hook: str) -> Callable[..., Any]:
    """Wraps the function so that its errors name the plugin. An `AudioZenError` and Ctrl-C pass unchanged."""

    @functools.wraps(function)
    def named(*args: Any) -> Any:
        with _naming(plugin, hook):
            return function(*args)

    return named


def named_wrapper(function: Callable[..., Any], plugin: object, hook: str) -> Callable[..., Any]:
    """Wraps a wrapper so that its errors name the plugin, and checks that it lets other hooks' errors through.

    Raises:
        HookError: during a call: the wrapper did not yield, yielded twice, or swallowed the error of another hook.
    """

    @functools.wraps(function)
    def named(*args: Any) -> Generator[None, Any, Any]:
        generator = function(*args)
        with _naming(plugin, hook):
            try:
                next(generator)
            except StopIteration:
                raise HookError(f"{plugin}: its wrapper of `{hook}` did not yield", remedy=_YIELD) from None
        try:
            result = yield
        except BaseException as error:
            _let_through(generator, error, plugin, hook)
            raise
        with _naming(plugin, hook):
            try:
                generator.send(result)
            except StopIteration as stop:
                return stop.value
        raise _yielded_twice(generator, plugin, hook)

    return named


_YIELD = (
    "a wrapper must yield exactly once, where the other implementations run, and return their result: `return (yield)`"
)


def _let_through(generator: Generator[Any, Any, Any], error: BaseException, plugin: object, hook: str) -> None:
    """Passes an error on to a wrapper, which must raise it again; returns if it did."""
    try:
        generator.throw(error)
    except StopIteration:
        raise HookError(
            f"{plugin}: its wrapper of `{hook}` swallowed {type(error).__name__}: {error}",
            remedy="raise it again; to keep an error from stopping the run, catch it in the code that raises it",
        ) from error
    except BaseException as raised:
        if raised is error:
            return
        with _naming(plugin, hook):
            raise
    raise _yielded_twice(generator, plugin, hook) from error


def _yielded_twice(generator: Generator[Any, Any, Any], plugin: object, hook: str) -> HookError:
    with contextlib.suppress(BaseException):
        generator.close()
    return HookError(f"{plugin}: its wrapper of `{hook}` yielded twice", remedy=_YIELD)


@contextlib.contextmanager
def _naming(plugin: object, hook: str) -> Iterator[None]:
    try:
        yield
    except AudioZenError:
        raise
    except Exception as error:
        raise HookError.caused_by(error, f"{plugin} failed in `{hook}`:") from error
