# ruff: noqa: UP006, UP007, UP045 - this file tests the old spellings too

from __future__ import annotations

import datetime
import enum
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict, TypeVar, Union

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from audiozen_core.binding.messages import label_and_suggestion, type_text
from audiozen_core.binding.values import convert_value, fits, wrong_places
from audiozen_core.diagnostics.toml_text import value_in_words

Rate = NewType("Rate", float)
Item = TypeVar("Item")


class Shape(enum.Enum):
    ROUND = "round"


class Callback(Protocol):
    def __call__(self) -> None: ...


class Options(TypedDict):
    size: int


NOW = datetime.datetime(2026, 11, 22, 10, 0, 0)


@pytest.mark.parametrize(
    ("value", "annotation", "verdict"),
    [
        (1, float, "yes"),
        (1.0, float, "yes"),
        (float("inf"), float, "yes"),
        (True, float, "no"),
        ("fast", float, "no"),
        (1, int, "yes"),
        (1.0, int, "no"),
        (True, int, "no"),
        (True, bool, "yes"),
        (1, bool, "no"),
        ("true", bool, "no"),
        ("a", str, "yes"),
        (1, str, "no"),
        (True, str, "no"),
        ([], str, "no"),
        ("a", Path, "yes"),
        (1, Path, "no"),
        ("a", Union[str, os.PathLike], "yes"),
        ("a", os.PathLike[str], "yes"),
        ("min", Literal["min", "max"], "yes"),
        ("mim", Literal["min", "max"], "no"),
        (1, Literal[1, 2], "yes"),
        (True, Literal[1, 2], "no"),
        (1, Optional[float], "yes"),
        ("x", Optional[float], "no"),
        ("x", float | None, "no"),
        ("x", float | str, "yes"),
        ("x", float | list[str], "no"),
        (["x"], float | list[str], "yes"),
        ([1, 2.5], list[float], "yes"),
        ([1, "x"], list[float], "no"),
        (3, list[float], "no"),
        ("abc", Sequence[str], "no"),
        (["abc"], Sequence[str], "yes"),
        (["abc"], list, "yes"),
        (["abc"], typing.List, "yes"),
        (3, typing.List, "no"),
        ([1], typing.List[int], "yes"),
        ([1], typing.Sequence[str], "no"),
        ([1, 2], tuple[int, int], "yes"),
        ([1, 2, 3], tuple[int, int], "no"),
        ([1, 2, 3], tuple[int, ...], "yes"),
        ([1, "x"], tuple[int, ...], "no"),
        ([1, 1], set[int], "yes"),
        ({"a": 1}, dict[str, int], "yes"),
        ({"a": "x"}, dict[str, int], "no"),
        ({"a": "x"}, Mapping, "yes"),
        ([], dict, "no"),
        ({"size": 1}, Options, "yes"),
        ({"size": "a"}, Options, "no"),
        ({"size": 1, "zebra": 1}, Options, "no"),
        ({}, Options, "no"),
        (3, Options, "no"),
        (1, Annotated[float, "in hertz"], "yes"),
        ("x", Annotated[float, "in hertz"], "no"),
        ("x", Rate, "no"),
        (2, Rate, "yes"),
        (NOW, datetime.datetime, "yes"),
        (NOW, datetime.date, "no"),
        (NOW.date(), datetime.date, "yes"),
        (NOW.date(), datetime.datetime, "no"),
        ("x", Any, "unknown"),
        ("x", Item, "unknown"),
        ("x", object, "unknown"),
        ("round", Shape, "unknown"),
        ("x", Callback, "unknown"),
        ("cuda", torch.device, "unknown"),
        ("cuda", torch.device | int, "unknown"),
        ("relu", Callable[[int], int], "foreign"),
        ("x", torch.nn.Module, "foreign"),
        (True, torch.nn.Module, "foreign"),
        ([1.0], torch.Tensor | None, "foreign"),
        ("fast", float | torch.Tensor, "no"),
        (0.1, float | torch.Tensor, "yes"),
        (3, str | Callable[[int], int], "no"),
        ({"path": "torch.nn.ReLU"}, float, "unknown"),
        ([{"path": "torch.nn.ReLU"}, 3], list[torch.nn.Module], "foreign"),
        (torch.nn.ReLU, float, "unknown"),
    ],
    ids=str,
)
def test_fits_compares_a_value_with_an_annotation(value, annotation, verdict):
    assert fits(value, annotation) == verdict


@pytest.mark.parametrize(
    ("value", "annotation", "places"),
    [
        ([1, "x", 2, True], list[float], [(1,), (3,)]),
        ([[1], ["x"]], list[list[int]], [(1, 0)]),
        ({"a": 1, "b": [1, "x"]}, dict[str, int | list[int]], [("b", 1)]),
        ([1, 2, 3], tuple[int, int], [()]),
        ("x", float | list[float], [()]),
        ([1.0, "x"], float | list[float], [(1,)]),
        ([1], list[float], []),
    ],
    ids=str,
)
def test_wrong_key_paths_are_the_innermost_ones(value, annotation, places):
    assert [place for place, _, _ in wrong_places(value, annotation, ())] == places


@pytest.mark.parametrize(
    ("value", "annotation", "label", "suggestion"),
    [
        ("fast", float, "expected a number", None),
        ("1e-3", float, "did you mean `1e-3`?", "1e-3"),
        ("3", int, "did you mean `3`?", "3"),
        (3.0, int, "did you mean `3`?", "3"),
        (3.5, int, "expected an integer", None),
        ("True", bool, "did you mean `true`?", "true"),
        (1, bool, "did you mean `true`?", "true"),
        ("mim", Literal["min", "max"], 'did you mean `"min"`?', '"min"'),
        ("zebra", Literal["min", "max"], 'expected one of "min", "max"', None),
        ("a", list[str], 'did you mean `["a"]`?', '["a"]'),
        ([3], float | str, "expected a number or a string", None),
        ([1], tuple[int, int], "expected an array of 2", None),
        (1, dict, "expected a table", None),
        (1, Path, "expected a string", None),
        (5, str, 'did you mean `"5"`?', '"5"'),
        (True, str, 'did you mean `"true"`?', '"true"'),
        ("5 # bands", int, "did you mean `5`?", "5"),
        ("1.", float, "expected a number", None),
        ("infinity", float, "expected a number", None),
        ("0x10", int, "did you mean `0x10`?", "0x10"),
        ("1", Literal[1, 2], "did you mean `1`?", "1"),
        ({}, list[str], "expected an array of strings", None),
        ({}, list[dict], "expected an array", None),
        (1, torch.nn.Module, "", None),
    ],
    ids=str,
)
def test_label_suggests_a_value_or_describes_the_expected_type(value, annotation, label, suggestion):
    assert label_and_suggestion(value, annotation) == (label, suggestion)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (float | None, "float"),
        (Optional[list[int]], "list[int]"),
        (dict[str, float], "dict[str, float]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1, True], '"a" | 1 | true'),
        (float | torch.Tensor, "float | Tensor"),
        (Callable[[int], str], "Callable"),
        (Any, "Any"),
        (Rate, "float"),
    ],
    ids=str,
)
def test_type_text_describes_annotations(annotation, text):
    assert type_text(annotation) == text


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_subnormal=False)
    | st.text(max_size=5)
    | st.dates()
    | st.datetimes()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
leaves = st.sampled_from(
    [int, float, str, bool, Path, Any, torch.Tensor, None, Literal["a", 1], dict, list, Options, Shape, Rate, Item]
)
annotations = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda item: list[item]),
        inner.map(lambda item: tuple[item, ...]),
        inner.map(lambda item: dict[str, item]),
        inner.map(lambda item: Optional[item]),
        st.tuples(inner, inner).map(lambda pair: Union[pair]),
        st.tuples(inner, inner).map(lambda pair: tuple[pair]),
    ),
    max_leaves=4,
)


@given(values, annotations)
@example({"a": False}, int | dict[str, torch.Tensor])
def test_any_value_can_be_checked_against_any_annotation(value, annotation):
    places = wrong_places(value, annotation, ("it",))
    assert (fits(value, annotation) == "no") == bool(places)
    for place, wrong, expected_type in places:
        inner = value
        for part in place[1:]:
            inner = inner[part]
        assert inner is wrong
        assert fits(wrong, expected_type) == "no"
        label, suggestion = label_and_suggestion(wrong, expected_type)
        assert isinstance(label + type_text(expected_type) + value_in_words(wrong), str)
        assert suggestion is None or suggestion in label


@given(values, annotations)
def test_conversion_of_a_value_that_fits_never_fails(value, annotation):
    if fits(value, annotation) == "yes":
        convert_value(value, annotation)


def test_values_inside_arrays_and_tables_are_converted():
    assert convert_value(["a", "b"], list[Path]) == [Path("a"), Path("b")]
    assert convert_value({"x": ["a"]}, dict[str, tuple[Path, ...]]) == {"x": (Path("a"),)}
    assert convert_value([3, 3], int | tuple[int, int]) == (3, 3)
    assert convert_value("a", str | Path) == "a"
    assert convert_value("a", Path | None) == Path("a")
    assert convert_value(["x"], tuple[int, ...]) == ["x"], "a value that does not fit is returned unchanged"
