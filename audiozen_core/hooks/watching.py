"""Notifies an observer when the implementation of a hook begins and ends."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any, Protocol

ANSWERED_FOR_THE_TRAINER = ("autocast", "backward", "optimizer_step")
"""Hooks that do a part of a step instead of the trainer. They are not observed: their time belongs to that part."""


class HookWatch(Protocol):
    """An observer of hooks. A hook may call other hooks, so the calls of `enter` and `leave` may be nested."""

    def enter(self, plugin: str) -> None:
        """A hook of the plugin with this name begins."""
        ...

    def leave(self) -> None:
        """The hook that has begun most recently ends."""
        ...


def watched_call(function: Callable[..., Any], watch: HookWatch, plugin: str) -> Callable[..., Any]:
    """Wraps an implementation so that the observer is notified of each call."""

    @functools.wraps(function)
    def watched(*args: Any) -> Any:
        watch.enter(plugin)
        try:
            return function(*args)
        finally:
            watch.leave()

    return watched


def watched_wrapper(function: Callable[..., Any], watch: HookWatch, plugin: str) -> Callable[..., Any]:
    """Wraps a hook wrapper so that the observer is notified of the code before and after its `yield`."""

    @functools.wraps(function)
    def watched(*args: Any) -> Generator[Any, Any, Any]:
        inner = function(*args)
        go_on: Callable[[], Any] = functools.partial(next, inner)
        while True:
            watch.enter(plugin)
            try:
                yielded = go_on()
            except StopIteration as stop:
                return stop.value
            finally:
                watch.leave()
            try:
                sent = yield yielded
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:
                go_on = functools.partial(inner.throw, error)
            else:
                go_on = functools.partial(inner.send, sent)

    return watched
