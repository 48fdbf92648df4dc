"""`**kwargs`: which other arguments does a callable take?"""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from torch import nn

from audiozen_core.binding.ranges import Range, check_ranges
from audiozen_core.binding.signature import signature_of
from audiozen_core.diagnostics.config_codes import MISSING_ARGUMENT, UNKNOWN_ARGUMENT, WRONG_ARGUMENT_TYPE
from tests.core.binding.found import findings, the_finding
from tests.core.binding.targets import Anything, Base, Named


class OldStyle(Base):
    def __init__(self, components, **kwargs):
        Base.__init__(self, components, **kwargs)


class Fixing(Base):
    def __init__(self, components, **kwargs):
        super().__init__(components, max_epochs=3, **kwargs)


class Popping(Base):
    def __init__(self, components, **kwargs):
        gain = kwargs.pop("gain", 1.0)
        if "bias" in kwargs:
            gain += kwargs.pop("bias")
        super().__init__(components, **kwargs)


class Forgetting(Base):
    def __init__(self, components, **kwargs):
        super().__init__(components)


class Opaque(Base):
    def __init__(self, components, **kwargs):
        super().__init__(components, **{key.lower(): value for key, value in kwargs.items()})


class Ranged(Base):
    def __init__(self, components, *, alpha: Annotated[float, Range(least=0)] = 0.5, **kwargs):
        check_ranges(Ranged, locals())
        super().__init__(components, **kwargs)


class Local(Base):
    def __init__(self, components, **kwargs):
        super().__init__(**locals())


@pytest.mark.parametrize("cls", [Named, Anything, OldStyle, Popping, Ranged])
def test_keywords_are_checked_against_the_parent_constructor(cls):
    assert findings(cls, {"max_epochs": 3}, injected=["components"]) == []
    found = the_finding(cls, {"max_epoch": 3}, injected=["components"])
    assert (found.code, found.suggestion) == (UNKNOWN_ARGUMENT, "max_epochs")
    assert findings(cls, {"max_epochs": "many"}, injected=["components"]) == [(WRONG_ARGUMENT_TYPE, "max_epochs")]
    assert findings(cls, {}) == [(MISSING_ARGUMENT, "components")]


def test_argument_that_the_class_sets_for_its_parent_is_unknown():
    assert findings(Fixing, {"max_epochs": 3}, injected=["components"]) == [(UNKNOWN_ARGUMENT, "max_epochs")]
    assert findings(Fixing, {"patience": 3}, injected=["components"]) == []


def test_names_that_the_constructor_reads_from_kwargs_are_known():
    assert findings(Popping, {"gain": 2.0, "bias": 1}, injected=["components"]) == []
    assert "gain=…" in signature_of(Popping).text()


def test_keyword_that_the_constructor_drops_is_reported_as_ignored():
    found = the_finding(Forgetting, {"max_epochs": 3}, injected=["components"])
    assert found.code == UNKNOWN_ARGUMENT
    assert "would be ignored" in found.message


@pytest.mark.parametrize("cls", [Opaque, Local])
def test_keywords_are_not_checked_if_the_analysis_cannot_follow_them(cls):
    assert findings(cls, {"whatever": 3}, injected=["components"]) == []


def test_class_without_source_code_is_not_checked():
    scope: dict[str, Any] = {"Base": Base}
    exec("class Made(Base):\n    def __init__(self, **kwargs):\n        super().__init__(**kwargs)", scope)
    assert findings(scope["Made"], {"whatever": 3}) == []


def test_name_that_is_read_from_kwargs_without_a_default_is_required():
    class Needing:
        def __init__(self, **kwargs):
            self.width = kwargs["width"]
            self.depth = kwargs.pop("depth")

    assert findings(Needing, {"width": 1}) == [(MISSING_ARGUMENT, "depth")]


def test_keywords_passed_on_to_nn_module_are_unknown():
    class Careless(nn.Module):
        def __init__(self, width: int, **kwargs):
            super().__init__(**kwargs)

    assert findings(Careless, {"width": 1, "zebra": 2}) == [(UNKNOWN_ARGUMENT, "zebra")]


def test_keywords_are_followed_along_the_method_resolution_order():
    class Left:
        def __init__(self, left=1, **kwargs):
            super().__init__(**kwargs)

    class Right:
        def __init__(self, right=1, **kwargs):
            super().__init__(**kwargs)

    class Both(Left, Right): ...

    assert findings(Both, {"left": 1, "right": 2}) == []
    assert findings(Left, {"right": 2}) == [(UNKNOWN_ARGUMENT, "right")], (
        "negative control: `Left` alone does not take `right`"
    )


def test_arguments_that_the_class_passes_by_position_are_unknown():
    class Bidirectional(nn.LSTM):
        def __init__(self, width: int, **kwargs):
            super().__init__(width, width, bidirectional=True, **kwargs)

    assert findings(Bidirectional, {"width": 4, "num_layers": 2}) == []
    for taken in ("input_size", "hidden_size", "bidirectional", "mode"):
        assert findings(Bidirectional, {"width": 4, taken: 1}) == [(UNKNOWN_ARGUMENT, taken)]


def test_function_with_kwargs_accepts_any_other_keyword():
    def make(width: int, **kwargs): ...

    assert findings(make, {"width": 1, "zebra": 2}) == []
    assert findings(make, {"width": "1"}) == [(WRONG_ARGUMENT_TYPE, "width")]
