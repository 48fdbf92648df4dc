"""The types of `hookimpl`, generated from the hooks' specs.

A method takes any of its hook's arguments, by name. Types have no word for "any of these", so the stub has a protocol
for each set of arguments.
"""

import ast
import inspect
import itertools
import re
from pathlib import Path

from audiozen_core.hooks import marker, specs
from audiozen_core.hooks.checks import _UNWRAPPABLE, HOOK_NAMES
from audiozen_core.hooks.spec_lookup import OWN, first_answer_counts, return_annotation

STUB = Path(marker.__file__).with_suffix(".pyi")
HEAD = '''\
# Generated from `specs.py` by `python -m tests.core.hooks.test_marker_stub`.
# ruff: noqa
# fmt: off
"""The types of `hookimpl`: each hook's name, and what its implementation may take and return."""

from collections.abc import Callable, Generator
from typing import Any, Literal, Protocol, TypeVar, overload

{imports}
from audiozen_core.hooks.trainer_protocol import Trainer

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Answer = TypeVar("_Answer", covariant=True)
'''
MARKER = """
class HookMarker:
    def __init__(self, project: str) -> None: ...
    @overload
    def __call__(self, function: _Function, /) -> _Function: ...
    @overload
    def __call__(
        self, *, wrapper: bool = ..., optionalhook: bool = ..., specname: str | None = ...
    ) -> Callable[[_Function], _Function]: ...
"""


def stub():
    """Returns the text of the stub."""
    protocols: dict[tuple[str, ...], str] = {}
    unions, methods = [], [MARKER]
    for hook in HOOK_NAMES:
        parameters = list(inspect.signature(getattr(specs.Hooks, hook)).parameters.values())[1:]
        arguments = [f"{parameter.name}: {parameter.annotation}" for parameter in parameters]
        sets = [each for size in range(len(arguments) + 1) for each in itertools.combinations(arguments, size)]
        members = [protocols.setdefault(each, f"_{len(protocols)}") for each in sets]
        unions.append(f"_{hook} = {' | '.join(f'{name}[_Answer]' for name in members)}\n")
        answer = inspect.signature(getattr(specs.Hooks, hook)).return_annotation
        around = "Any" if return_annotation(OWN[hook]) is None else answer
        unions.append(f'_{hook}_plain = TypeVar("_{hook}_plain", bound=_{hook}[{answer}])\n')
        plain = f"    def {hook}(self, function: _{hook}_plain, /) -> _{hook}_plain: ...\n"
        if hook in _UNWRAPPABLE:
            methods.append(plain)
            continue
        bound = f"_{hook}[Generator[None, Any, {around}]]"
        unions.append(f'_{hook}_wrapper = TypeVar("_{hook}_wrapper", bound={bound})\n')
        wraps = (
            f"    def {hook}(self, *, wrapper: Literal[True]) -> Callable[[_{hook}_wrapper], _{hook}_wrapper]: ...\n"
        )
        methods += ["    @overload\n", plain, "    @overload\n", wraps]
    classes = [
        f"class {name}(Protocol[_Answer]):\n"
        f"    def __call__({', '.join(['_self', 'plugin: Any', '/', *['*'] * bool(each), *each])}) -> _Answer: ...\n"
        for each, name in protocols.items()
    ]
    body = "".join(["\n", *classes, "\n", *unions, *methods])
    return HEAD.format(imports=imports(body)) + body + "\nhookimpl: HookMarker\n"


def imports(body):
    """Returns the imports of `specs.py` whose names occur in a text."""
    lines = []
    for node in ast.walk(ast.parse(Path(specs.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "typing":
            node.names = [alias for alias in node.names if re.search(rf"\b{alias.name}\b", body)]
            lines += [ast.unparse(node)] if node.names else []
    return "\n".join(sorted(lines))


def test_the_stub_matches_the_hook_specs():
    """If this fails: python -m tests.core.hooks.test_marker_stub."""
    assert STUB.read_text(encoding="utf-8") == stub()


def test_the_stub_has_every_hook_and_no_other():
    (cls,) = [node for node in ast.parse(stub()).body if isinstance(node, ast.ClassDef) and node.name == "HookMarker"]
    methods = {node.name for node in cls.body if isinstance(node, ast.FunctionDef)} - {"__init__", "__call__"}
    assert methods == set(HOOK_NAMES)
    assert all(callable(getattr(marker.hookimpl, hook)) for hook in HOOK_NAMES)
    assert first_answer_counts(OWN["backward"])


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
