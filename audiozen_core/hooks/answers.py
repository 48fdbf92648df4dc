"""Checks what an implementation of a hook returns against the return annotation of the hook's spec."""

from __future__ import annotations

import ast
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from audiozen_core.binding.annotations import is_typed_dict, unwrap
from audiozen_core.binding.source import syntax_tree
from audiozen_core.errors import HookError
from audiozen_core.hooks.scalars import as_scalar
from audiozen_core.hooks.spec_lookup import Spec, return_annotation

Fits = Callable[[Any], bool]


@functools.cache
def answer_fits(spec: Spec) -> Fits:
    """Returns a function that checks whether a value other than None is a valid answer to a hook.

    >>> from audiozen_core.hooks.specs import Hooks
    >>> fits = answer_fits(Hooks.on_nonfinite)
    >>> fits("skip"), fits("Skip"), answer_fits(Hooks.on_epoch_end)(1)
    (True, False, False)
    """
    return _fits(return_annotation(spec))


def wrong_answer(answer: Any, function: Callable[..., Any], plugin: object, spec: Spec) -> HookError:
    """Returns the error for an implementation whose return value is not a valid answer to the hook."""
    notes, hook = [*defined_in(function)], spec.__name__
    doc = inspect.getdoc(spec) or ""
    if return_annotation(spec) is not None:
        message = f"{plugin} answered `{hook}` with {_shown(answer)}, which is not an answer of this hook"
        if wanted := " ".join(doc.partition("\nReturns:\n")[2].split()):
            notes.append(f"wanted: {wanted}")
        remedy = f"return a value of the type `{inspect.signature(spec).return_annotation}`"
    else:
        message = f"{plugin} returned {_shown(answer)} from `{hook}`, but this hook must not return a value"
        remedy = "return nothing; to change the run, use another hook"
    return HookError(message, notes=notes, remedy=remedy)


def defined_in(function: Callable[..., Any]) -> tuple[str, ...]:
    """Returns a note with the file and the line of a function; empty if the function has no Python code."""
    function = inspect.unwrap(function)
    code: types.CodeType | None = getattr(function, "__code__", None)
    if code is None:
        return ()
    line = code.co_firstlineno
    # Python reports the line of the first decorator for a decorated function, so search for the `def`.
    if parsed := syntax_tree(function):
        tree, above = parsed
        line = next((node.lineno + above for node in _functions(tree)), line)
    return (f"defined in: {code.co_filename}:{line}, in {function.__qualname__}",)


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _fits(annotation: Any) -> Fits:
    """Returns a function that checks whether a value other than None fits an annotation.

    `binding.values.fits` checks values of TOML files. An answer may also be a tensor, a NumPy scalar or another object,
    about which `fits` can't decide. Some hooks answer in every step, so the annotation is read only once.
    """
    annotation = unwrap(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    # `isinstance` does not work for some annotations, such as a `TypedDict`. For these, any value is accepted.
    unknown = not isinstance(origin or annotation, type) and origin not in (Union, types.UnionType, Literal)
    if annotation is Any or (
        annotation is not None and (unknown or is_typed_dict(annotation) or getattr(annotation, "_is_protocol", False))
    ):
        return lambda value: True
    if annotation is None or annotation is types.NoneType:
        return lambda value: False
    if origin in (Union, types.UnionType):
        members = [_fits(member) for member in args if member is not types.NoneType]
        return members[0] if len(members) == 1 else lambda value: any(fits(value) for fits in members)
    if origin is Literal:
        return lambda value: any(type(value) is type(choice) and value == choice for choice in args)
    cls = origin or annotation
    if cls is float:
        return is_number
    if cls is Mapping and args:
        key_fits, value_fits = map(_fits, args)
        return lambda value: (
            isinstance(value, cls) and all(key_fits(key) and value_fits(each) for key, each in value.items())
        )
    if cls is bool:
        return is_bool
    return lambda value: isinstance(value, cls) and not isinstance(value, bool)


def is_bool(value: Any) -> bool:
    """Returns whether a value is a bool of Python or of NumPy. Does not import NumPy."""
    return isinstance(value, bool) or (type(value).__module__ == "numpy" and type(value).__name__.startswith("bool"))


def is_number(value: Any) -> bool:
    """Returns whether a value is a valid answer of the type `float`: any scalar except a bool."""
    return not is_bool(value) and as_scalar(value) is not None


def _shown(answer: Any) -> str:
    """Describes an answer. For most objects, shows only the type, because a `repr` may be long or wait for a GPU."""
    if isinstance(answer, Mapping):
        wrong = next(((key, value) for key, value in answer.items() if not is_number(value)), None)
        return f"a dict in which `{wrong[0]}` is {_shown(wrong[1])}" if wrong else "a dict"
    kind = type(answer)
    if kind in (bool, int, float, str):
        text = repr(answer)
        return f"`{text if len(text) <= 40 else text[:39] + '…'}`"
    return f"a `{kind.__name__ if kind.__module__ == 'builtins' else f'{kind.__module__}.{kind.__qualname__}'}`"
