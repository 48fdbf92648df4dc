"""Wraps hook implementations: errors name the plugin, answers are checked, and wrappers can't swallow errors."""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

from audiozen_core.errors import AudioZenError, HookError, exception_text, foreign_frames
from audiozen_core.hooks import watching
from audiozen_core.hooks.answers import answer_fits, is_bool, wrong_answer
from audiozen_core.hooks.spec_lookup import Spec, first_answer_counts, is_audiozen_spec


def checked_call(function: Callable[..., Any], plugin: object, spec: Spec) -> Callable[..., Any]:
    """Wraps an implementation so that its errors name the plugin, and its answers are checked.

    An `AudioZenError` that a plugin raises or causes gets a note that names the plugin, unless the plugin belongs to
    AudioZEN itself. Ctrl-C passes unchanged. If the hook belongs to AudioZEN, the answers `False` and "" mean None, so
    that the next plugin is called.

    Raises:
        HookError: (during a call) the implementation raised an error, or returned a value that is not a valid answer.
    """
    accept = _acceptance(function, plugin, spec)

    @functools.wraps(function)
    def checked(*args: Any) -> Any:
        with _naming(plugin, spec.__name__):
            answer = function(*args)
        return None if answer is None else accept(answer)

    return checked


class Implementation(NamedTuple):
    """One implementation of a hook, for `flat_call`.

    Attributes:
        function: the original bound method, or a wrapper around the method that notifies an observer of each call.
        names: the names of the function's arguments, in order.
        plugin: the plugin that implements the hook, for messages.
    """

    function: Callable[..., Any]
    names: Sequence[str]
    plugin: object


def flat_call(implementations: Sequence[Implementation], spec: Spec) -> Callable[..., Any]:
    """Returns a function that calls implementations as pluggy does, but with less overhead.

    Some hooks are called in every step. Pluggy looks up the arguments of each implementation in every call, whereas
    this function looks up the arguments only once. Errors and answers are handled as in `checked_call`.

    Args:
        implementations: all implementations of the hook, in the order of the calls. Wrappers are not allowed.
        spec: the spec of the hook. If only the first answer counts, the function returns this answer and does not call
            the other implementations. Otherwise it calls all implementations, and returns a list of their answers.
    """
    hook, first_answer = spec.__name__, first_answer_counts(spec)
    calls = [
        (found.function, found.names, found.plugin, _acceptance(found.function, found.plugin, spec))
        for found in implementations
    ]

    # The usual case, in which an implementation returns None and does not raise an error, has no further overhead.
    def call(**arguments: Any) -> Any:
        answers = []
        for function, names, plugin, accept in calls:
            values = [*map(arguments.__getitem__, names)]
            try:
                answer = function(*values)
            except AudioZenError as error:
                _note(error, plugin, hook)
                raise
            # A `sys.exit(0)` in a hook would end the run as if it had succeeded, so it is handled like an error.
            except (Exception, SystemExit) as error:
                raise _failed(error, plugin, hook) from error
            if answer is not None and (accepted := accept(answer)) is not None:
                if first_answer:
                    return accepted
                answers.append(accepted)
        return None if first_answer else answers

    return call


def call_all(caller: Any) -> Callable[..., list[Any]]:
    """Returns a function that calls every implementation even if some fail, and raises the first error at the end."""
    errors: list[Exception] = []

    def deferring(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            try:
                return function(*args)
            except Exception as error:
                errors.append(error)
                return None

        return call

    for implementation in caller.get_hookimpls():
        if not implementation.wrapper:
            implementation.function = deferring(implementation.function)

    def call(**arguments: Any) -> list[Any]:
        errors.clear()
        answers: list[Any] = caller(**arguments)
        if errors:
            raise errors[0]
        return answers

    return call


def _acceptance(function: Callable[..., Any], plugin: object, spec: Spec) -> Callable[[Any], Any]:
    """Returns a function that checks an answer and returns it.

    For AudioZEN's own hooks, the function returns None instead of False or "".

    Raises:
        HookError: (during a call) the value is not a valid answer to the hook.
    """
    fits, is_own_hook = answer_fits(spec), is_audiozen_spec(spec)

    def accepted(answer: Any) -> Any:
        if not fits(answer):
            raise wrong_answer(answer, function, plugin, spec)
        return None if is_own_hook and _is_empty(answer) else answer

    return accepted


def checked_wrapper(function: Callable[..., Any], plugin: object, spec: Spec) -> Callable[..., Any]:
    """Wraps a hook wrapper like `checked_call`, and checks that it does not swallow errors of other implementations.

    Raises:
        HookError: (during a call) the reasons of `checked_call`; or the wrapper did not yield, yielded twice, or
            swallowed the error of another implementation.
    """
    # If all answers of a hook count, a wrapper gets and returns a list of answers.
    fits = answer_fits(spec) if first_answer_counts(spec) else lambda answer: isinstance(answer, list)
    hook, is_own_hook = spec.__name__, is_audiozen_spec(spec)

    @functools.wraps(function)
    def checked(*args: Any) -> Generator[None, Any, Any]:
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
                if stop.value is None or fits(stop.value):
                    return None if is_own_hook and _is_empty(stop.value) else stop.value
                raise wrong_answer(stop.value, function, plugin, spec) from None
        raise _yielded_twice(generator, plugin, hook)

    return checked


_YIELD = (
    "a wrapper must yield exactly once, where the other implementations run, and return their result: `return (yield)`"
)


def _is_empty(answer: Any) -> bool:
    """Returns whether an answer is False or "", which mean the same as None for AudioZEN's own hooks."""
    return (isinstance(answer, str) or is_bool(answer)) and not answer


def _let_through(generator: Generator[Any, Any, Any], error: BaseException, plugin: object, hook: str) -> None:
    """Throws an error into a wrapper, and checks that the wrapper raises the same error again.

    Raises:
        HookError: the wrapper swallowed the error or raised another error.
    """
    try:
        generator.throw(error)
    except StopIteration:
        raise HookError(
            f"{plugin}: its wrapper of `{hook}` swallowed {exception_text(error)}",
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
    except AudioZenError as error:
        _note(error, plugin, hook)
        raise
    # A `sys.exit(0)` in a hook would end the run as if it had succeeded, so it is handled like an error.
    except (Exception, SystemExit) as error:
        raise _failed(error, plugin, hook) from error


def _note(error: AudioZenError, plugin: object, hook: str) -> None:
    """Adds a note that names the plugin to an error that the plugin raised or that it caused by calling the trainer."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename not in _CALL_FILES]
    if frames and frames[0] in foreign_frames(error) and not any(note.startswith(_NOTE) for note in error.notes):
        line = f"{frames[0].filename}:{frames[0].lineno}, in {frames[0].name}"
        error.notes = (*error.notes, f"{_NOTE}{plugin} in `{hook}`, {line}")


_NOTE = "raised by: "
_CALL_FILES = (__file__, watching.__file__)
"""The files whose frames lie between the trainer and an implementation in a traceback."""


def _failed(error: BaseException, plugin: object, hook: str) -> HookError:
    return HookError.caused_by(error, f"{plugin} failed in `{hook}`:")
