"""A function is read once. It is read again after a change, by `%autoreload` or by a name that is defined later."""

import ast
import importlib.util
import inspect
import sys
import types

import pytest

from audiozen_core.binding import keywords, signature
from audiozen_core.binding.signature import signature_of
from audiozen_core.binding.source import syntax_tree


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Returns a function that writes a module and imports it."""
    # Two texts of one length within a second would share their bytecode.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text):
        path = tmp_path / "mine.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("mine", path)
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        return made

    return write


def reload_in_place(old, new):
    """Does what `%autoreload` does with a function."""
    for name in ("__code__", "__defaults__", "__doc__", "__dict__"):
        setattr(old, name, getattr(new, name))


class NoHash:
    __hash__ = None

    def __call__(self, size: int = 1, **kwargs):
        pass


def test_callable_without_a_hash_has_a_signature_but_no_source():
    assert syntax_tree(NoHash()) is None
    assert signature_of(NoHash()).names() == ("size",)


def test_source_of_a_bound_method_is_that_of_its_function():
    tree, above = syntax_tree(NoHash().__call__)
    (function,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    assert function.name == "__call__"
    assert function.lineno + above == inspect.getsourcelines(NoHash.__call__)[1]


def test_function_that_is_replaced_in_place_is_read_again(module):
    make = module("def make(size=1):\n    return size\n").make
    before, tree = signature_of(make), syntax_tree(make)[0]
    assert syntax_tree(make)[0] is tree
    # Only the default differs, so both have equal code.
    reload_in_place(make, module("def make(size=2):\n    return size\n").make)
    assert [before.get("size").default, signature_of(make).get("size").default] == [1, 2]
    reload_in_place(make, module("def make(size=2, width=3):\n    return size + width\n").make)
    assert signature_of(make).names() == ("size", "width")
    assert "width" in ast.dump(syntax_tree(make)[0])


def test_annotation_that_can_be_resolved_later_is_resolved_then():
    names = {"__name__": "mine"}
    exec("from __future__ import annotations\ndef make(size: int, codec: Codec): ...", names)
    annotations = [parameter.annotation for parameter in signature_of(names["make"]).parameters]
    assert annotations == [int, inspect.Parameter.empty]
    names["Codec"] = types.SimpleNamespace
    annotations = [parameter.annotation for parameter in signature_of(names["make"]).parameters]
    assert annotations == [int, types.SimpleNamespace]


def test_a_constructor_is_read_and_searched_once(module, monkeypatch):
    """A component reads its own signature again to check its ranges, which must not take long."""
    read, searched = [], []
    for home, name, seen in ((signature, "_read_parameters", read), (keywords, "_read", searched)):
        original = getattr(home, name)
        monkeypatch.setattr(home, name, lambda *args, _of=original, _seen=seen: _seen.append(args) or _of(*args))
    text = "class A:\n    def __init__(self, a=1): ...\n\n\nclass B(A):\n    def __init__(self, b=2, **more):\n"
    made = module(f"{text}        super().__init__(**more)\n").B
    assert signature_of(made).names() == signature_of(made).names() == ("b", "a")
    assert len(read) == 2
    assert len(searched) == 1
