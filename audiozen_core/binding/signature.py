"""Reads the parameters of a callable, without calling it."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from inspect import Parameter
from keyword import iskeyword
from typing import Any
from weakref import WeakKeyDictionary

from audiozen_core.binding.annotations import fields_of, is_required, is_typed_dict, unwrap
from audiozen_core.binding.keywords import Forward, keyword_use

_WIDTH = 88
_DEFAULT_WIDTH = 24
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

# Constructors that accept `**kwargs` only to raise an error about them. They are listed by name, so that torch is not
# imported here. `patched_init` wraps the constructor of every module after the first `torch.compile` in a process.
_TAKING_NOTHING = {
    ("torch.nn.modules.module", "Module.__init__"),
    ("torch._dynamo.mutation_guard", "install_generation_tagging_init.<locals>.patched_init"),
}


class _UnknownDefault:
    """Stands for a default that exists but can't be read."""

    def __repr__(self) -> str:
        return "…"


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a callable.

    Attributes:
        name: the name of the callable.
        parameters: the named parameters without `self`. Annotations are resolved where possible. Parameters of a parent
            class come last.
        open: whether the callable uses further keyword arguments with unknown names.
        ignoring: whether the callable accepts further keyword arguments and ignores them.
    """

    name: str
    parameters: tuple[Parameter, ...]
    open: bool = False
    ignoring: bool = False

    def names(self) -> tuple[str, ...]:
        """Returns the names of the parameters that can be passed as keyword arguments."""
        return tuple(parameter.name for parameter in self.parameters if parameter.kind is not Parameter.POSITIONAL_ONLY)

    def get(self, name: str) -> Parameter | None:
        """Returns the parameter with this name, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def text(self, keep: str | None = None) -> str:
        """Returns the signature in one line without annotations: `RAdam(params, lr=0.001, betas=(0.9, 0.999), …)`.

        The last parameters of a long signature are left out, except for the parameter `keep`.
        """
        shown = {parameter.name: _parameter_text(parameter) for parameter in self.parameters}
        more = ["…"] if self.open else []
        while len(line := f"{self.name}({', '.join([*shown.values(), *more])})") > _WIDTH:
            last = next((name for name in reversed(shown) if name != keep), None)
            if last is None:
                break
            del shown[last]
            more = ["…"]
        return line


def signature_of(target: Any) -> Signature | None:
    """Returns the signature of a function, of another callable, or of the constructor of a class.

    Returns None if the target is not callable, or if its signature can't be read, as for some builtins.
    """
    if isinstance(target, functools.partial):
        inner = signature_of(target.func)
        return inner and _without(inner, len(target.args), target.keywords)
    if is_typed_dict(target):
        return _of_typed_dict(target)
    if isinstance(target, type):
        return _of_class(target)
    return _of_function(target)


def return_type(function: Any) -> type | None:
    """Returns the class in the return annotation of a function; None if the annotation is missing or not a class."""
    annotations = getattr(function, "__annotations__", {})
    annotation = unwrap(_resolved(annotations["return"], _globals(function))) if "return" in annotations else None
    return annotation if isinstance(annotation, type) and annotation is not Any else None


def _of_function(target: Any) -> Signature | None:
    name = getattr(target, "__name__", type(target).__name__)
    parameters = _parameters(target)
    if parameters is None:
        return None
    return Signature(
        name, tuple(p for p in parameters if p.kind not in _VARIADIC), any(p.kind is p.VAR_KEYWORD for p in parameters)
    )


def _of_typed_dict(cls: Any) -> Signature | None:
    """Returns a signature whose parameters are the keys of a `TypedDict` that are valid Python names."""
    fields = fields_of(cls)
    if not fields and cls.__annotations__:
        return None
    names = [name for name in fields if name.isidentifier() and not iskeyword(name)]
    parameters = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if is_required(cls, name, fields[name]) else _UnknownDefault(),
            annotation=fields[name],
        )
        for name in names
    ]
    return Signature(cls.__name__, tuple(parameters), open=len(names) < len(fields))


def _of_class(cls: type) -> Signature | None:
    if any("__signature__" in vars(base) for base in cls.__mro__ if base is not object):
        return _of_function(cls)
    ways = ((inspect.getmro(type(cls)), "__call__"), (cls.__mro__, "__init__"), (cls.__mro__, "__new__"))
    read = [_constructor(cls, mro, method) for mro, method in ways if _owner(mro, method) is not None]
    if not read:
        return Signature(cls.__name__, ())
    # Python passes the arguments to all constructor methods of a class. A method that accepts all arguments, such as
    # `__new__(cls, *args, **kwargs)`, does not show which arguments are allowed, so it is left out.
    useful = [signature for signature in read if signature is not None and (signature.parameters or not signature.open)]
    named = [signature for signature in useful if signature.parameters]
    return (named or useful)[0] if useful else _of_function(cls)


def _owner(mro: tuple[type, ...], method: str) -> type | None:
    """Returns the first class in an MRO that defines the constructor method itself, apart from `object` and `type`."""
    return next((base for base in mro if base not in (object, type) and method in vars(base)), None)


def _constructor(cls: type, mro: tuple[type, ...], method: str) -> Signature | None:
    """Returns the signature of the first constructor method in an MRO, including parameters passed on to a parent."""
    owner = _owner(mro, method)
    if owner is None:
        return Signature(cls.__name__, ())
    function = vars(owner)[method]
    function = getattr(function, "__func__", function)
    parameters = _parameters(function)
    if parameters is None:
        return None
    if parameters and parameters[0].kind not in _VARIADIC:
        parameters = parameters[1:]  # self
    named = tuple(parameter for parameter in parameters if parameter.kind not in _VARIADIC)
    keywords = next((parameter.name for parameter in parameters if parameter.kind is Parameter.VAR_KEYWORD), None)
    if keywords is None or (function.__module__, getattr(function, "__qualname__", "")) in _TAKING_NOTHING:
        return Signature(cls.__name__, named)
    use = keyword_use(inspect.unwrap(function), keywords)
    taken = tuple(
        Parameter(name, Parameter.KEYWORD_ONLY, default=_UnknownDefault() if optional else Parameter.empty)
        for name, optional in use.taken.items()
        if name.isidentifier()
    )
    if not use.readable or len(use.forwards) > 1:
        return Signature(cls.__name__, _joined(named, taken), open=True)
    if not use.forwards:
        return Signature(cls.__name__, _joined(named, taken), ignoring=not use.taken)
    above = _parent(cls, mro, owner, method, use.forwards[0])
    if above is None:
        return Signature(cls.__name__, _joined(named, taken), open=True)
    inherited = above.parameters
    if named:  # the position of an inherited parameter differs from the parent's, so it is passed by keyword
        inherited = tuple(_as_keyword(parameter) for parameter in inherited)
    taken = tuple(parameter for parameter in taken if above.get(parameter.name) is None)
    return Signature(cls.__name__, _joined(named, taken, inherited), above.open, above.ignoring)


def _parent(cls: type, mro: tuple[type, ...], owner: type, method: str, forward: Forward) -> Signature | None:
    """Returns the signature of the parent's method that gets the `**kwargs`; None if it can't be determined."""
    rest = mro[mro.index(owner) + 1 :]
    if forward.parent is not None:
        place = next((place for place, base in enumerate(rest) if base.__name__ == forward.parent), None)
        if place is None:
            return None
        rest = rest[place:]
    if _owner(rest, method) is None:  # `object` takes no arguments, and `type` passes all arguments to `__init__`
        return Signature(cls.__name__, (), open=method != "__init__")
    above = _constructor(cls, rest, method)
    if above is None:
        return None
    parameters = [
        parameter
        for place, parameter in enumerate(above.parameters)
        if not (place < forward.positional and parameter.kind is not Parameter.KEYWORD_ONLY)
        and parameter.name not in forward.keywords
    ]
    return Signature(above.name, tuple(parameters), above.open, above.ignoring)


def _without(inner: Signature, positional: int, keywords: dict[str, Any]) -> Signature:
    """Returns the signature of a `functools.partial`, without the arguments that are already bound."""
    rest = [parameter for parameter in inner.parameters if parameter.kind is not Parameter.KEYWORD_ONLY][positional:]
    rest += [parameter for parameter in inner.parameters if parameter.kind is Parameter.KEYWORD_ONLY]
    replaced = tuple(
        parameter.replace(default=keywords[parameter.name], kind=Parameter.KEYWORD_ONLY)
        if parameter.name in keywords
        else parameter
        for parameter in rest
    )
    return Signature(inner.name, replaced, inner.open, inner.ignoring)


# The parameters of functions are cached, because the constructors of a base class are read for each of its subclasses,
# and evaluating annotations is slow.
_cache: WeakKeyDictionary[types.FunctionType, tuple[types.CodeType, tuple[Parameter, ...]]] = WeakKeyDictionary()


def _parameters(function: Any) -> tuple[Parameter, ...] | None:
    """Returns the parameters with resolved annotations. An annotation that can't be resolved is dropped."""
    if not isinstance(function, types.FunctionType):
        return _read_parameters(function)[0]  # other callables may not be hashable, and their parameters may change
    code, parameters = _cache.get(function, (None, None))
    if code is function.__code__:  # `%autoreload` replaces the code and the defaults of a function in place
        return parameters
    parameters, complete = _read_parameters(function)
    # Parameters with unresolved annotations are not cached, because a missing name may be defined later, for example in
    # the same module.
    if parameters is not None and complete:
        _cache[function] = function.__code__, parameters
    return parameters


def _read_parameters(function: Any) -> tuple[tuple[Parameter, ...] | None, bool]:
    """Returns the parameters, and whether all annotations could be resolved."""
    try:
        written = inspect.signature(function).parameters.values()
    except (ValueError, TypeError, NameError, AttributeError):
        return None, True
    scope = _globals(function)
    parameters = tuple(
        parameter.replace(annotation=_resolved(parameter.annotation, scope))
        if parameter.annotation is not parameter.empty
        else parameter
        for parameter in written
    )
    return parameters, _annotated(parameters) == _annotated(written)


def _annotated(parameters: Iterable[Parameter]) -> list[str]:
    return [parameter.name for parameter in parameters if parameter.annotation is not parameter.empty]


def _globals(target: Any) -> dict[str, Any]:
    """Returns the global variables that the annotations of a callable may use."""
    function = inspect.unwrap(target)
    for candidate in (function, vars(type(function)).get("__call__")):
        if isinstance(scope := getattr(candidate, "__globals__", None), dict):
            return scope
    return vars(sys.modules.get(getattr(function, "__module__", None) or "", types.ModuleType("")))


def _resolved(annotation: Any, scope: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    # Many modules, such as the modules of torch's schedulers, import names from `typing` only for type checkers.
    for names in (scope, {**vars(typing), **vars(collections.abc), **scope}):
        try:
            return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
        except NameError:
            continue
        except Exception:  # an annotation may be any expression
            break
    return Parameter.empty


def _joined(*groups: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """Returns all parameters of the groups. If several parameters have the same name, only the first is returned."""
    by_name: dict[str, Parameter] = {}
    for parameter in (parameter for group in groups for parameter in group):
        by_name.setdefault(parameter.name, parameter)
    return tuple(by_name.values())


def _as_keyword(parameter: Parameter) -> Parameter:
    only = parameter.kind is Parameter.POSITIONAL_ONLY
    return parameter if only else parameter.replace(kind=Parameter.KEYWORD_ONLY)


def default_text(default: Any) -> str:
    """Formats a default with `repr`, but a class or a function as its name."""
    try:
        return default.__name__ if isinstance(default, type | types.FunctionType) else repr(default)
    except Exception:  # the `__repr__` of a plugin's class may fail
        return "…"


def _parameter_text(parameter: Parameter) -> str:
    if parameter.default is Parameter.empty:
        return parameter.name
    text = default_text(parameter.default)
    if len(text) > _DEFAULT_WIDTH or "\n" in text or re.search(r" at 0x|^<", text):
        text = "…"
    return f"{parameter.name}={text}"
