"""Wraps hook implementations: an error names the plugin, answers are checked, and no wrapper swallows an error."""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

from audiozen_core.errors import AudioZenError, HookError, foreign_frames
from audiozen_core.hooks import watching
from audiozen_core.hooks.answers import answer_fits, is_bool, wrong_answer
from audiozen_core.hooks.spec_lookup import Spec, first_answer_counts, is_own


def checked_call(function: Callable[..., Any], plugin: object, spec: Spec) -> Callable[..., Any]:
    """Wraps an implementation so that its errors name the plugin, and its answers are checked.

    An `AudioZenError` gets a note that names the plugin, unless the hook is AudioZEN's own. Ctrl-C passes unchanged. To
    AudioZEN's own hooks, `False` and an empty text mean None, so that the other plugins are asked.

    Raises:
        HookError: during a call: the implementation has raised an error, or returned something that is not an answer.
    """
    accept = _acceptance(function, plugin, spec)

    @functools.wraps(function)
    def checked(*args: Any) -> Any:
        with _naming(plugin, spec.__name__):
            answer = function(*args)
        return None if answer is None else accept(answer)

    return checked


class Implementation(NamedTuple):
    """One implementation of a hook, as `flat_call` calls it.

    Attributes:
        function: the bound method as its author has written it, or a function that tells an observer of its calls.
        names: the arguments that it takes, in order.
        plugin: the plugin that implements the hook, for messages.
    """

    function: Callable[..., Any]
    names: Sequence[str]
    plugin: object


def flat_call(implementations: Sequence[Implementation], spec: Spec) -> Callable[..., Any]:
    """Returns a function that calls implementations as pluggy does, without pluggy's work of each call.

    Some hooks are called in every step. What pluggy finds out in each call, such as which arguments an implementation
    takes, is found out here once. Errors and answers are those of `checked_call`.

    Args:
        implementations: all of them, first to last. None of them is a wrapper.
        spec: the hook. It says whether the first answer counts, and the rest is not called; otherwise all answers are a
            list.
    """
    hook, first_answer = spec.__name__, first_answer_counts(spec)
    calls = [
        (found.function, found.names, found.plugin, _acceptance(found.function, found.plugin, spec))
        for found in implementations
    ]

    # The usual answer is None, and the usual call raises nothing: these two cost one call of each implementation.
    def call(**arguments: Any) -> Any:
        answers = []
        for function, names, plugin, accept in calls:
            values = [*map(arguments.__getitem__, names)]
            try:
                answer = function(*values)
            except AudioZenError as error:
                _note(error, plugin, hook)
                raise
            # `sys.exit(0)` in a hook would end the run as if it had succeeded.
            except (Exception, SystemExit) as error:
                raise _failed(error, plugin, hook) from error
            if answer is not None and (accepted := accept(answer)) is not None:
                if first_answer:
                    return accepted
                answers.append(accepted)
        return None if first_answer else answers

    return call


def _acceptance(function: Callable[..., Any], plugin: object, spec: Spec) -> Callable[[Any], Any]:
    """Returns a function that checks an answer, and returns what it means.

    Raises:
        HookError: during a call: it is not an answer of the hook.
    """
    fits, of_ours = answer_fits(spec), is_own(spec)

    def accepted(answer: Any) -> Any:
        if not fits(answer):
            raise wrong_answer(answer, function, plugin, spec)
        return None if of_ours and _is_empty(answer) else answer

    return accepted


def checked_wrapper(function: Callable[..., Any], plugin: object, spec: Spec) -> Callable[..., Any]:
    """Wraps a wrapper in the same way, and checks that it lets other hooks' errors through.

    Raises:
        HookError: during a call, as for `checked_call`; or the wrapper did not yield, yielded twice, or swallowed the
            error of another hook.
    """
    # If all plugins are called, a wrapper gets the list of what they returned.
    fits = answer_fits(spec) if first_answer_counts(spec) else lambda answer: isinstance(answer, list)
    hook, of_ours = spec.__name__, is_own(spec)

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
                    return None if of_ours and _is_empty(stop.value) else stop.value
                raise wrong_answer(stop.value, function, plugin, spec) from None
        raise _yielded_twice(generator, plugin, hook)

    return checked


_YIELD = (
    "a wrapper must yield exactly once, where the other implementations run, and return their result: `return (yield)`"
)


def _is_empty(answer: Any) -> bool:
    """Returns whether an answer to one of AudioZEN's hooks means None: `False`, and an empty text, decide nothing."""
    return (isinstance(answer, str) or is_bool(answer)) and not answer


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
    except AudioZenError as error:
        _note(error, plugin, hook)
        raise
    # `sys.exit(0)` in a hook would end the run as if it had succeeded.
    except (Exception, SystemExit) as error:
        raise _failed(error, plugin, hook) from error


def _note(error: AudioZenError, plugin: object, hook: str) -> None:
    """Adds the plugin to an error that it raises itself, or that it has caused by a call of the trainer."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename not in _OF_CALLS]
    if frames and frames[0] in foreign_frames(error) and not any(note.startswith(_NOTE) for note in error.notes):
        line = f"{frames[0].filename}:{frames[0].lineno}, in {frames[0].name}"
        error.notes = (*error.notes, f"{_NOTE}{plugin} in `{hook}`, {line}")


_NOTE = "raised by: "
_OF_CALLS = (__file__, watching.__file__)
"""The files whose frames are between the trainer and an implementation."""


def _failed(error: BaseException, plugin: object, hook: str) -> HookError:
    return HookError.caused_by(error, f"{plugin} failed in `{hook}`:")
