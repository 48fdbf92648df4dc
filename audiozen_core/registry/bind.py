"""Arguments against a signature: everything that can be said about them before anything is built."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

ProblemKind = Literal[
    "unknown_argument",
    "missing_argument",
    "injected_argument",
    "positional_only",
    "wrong_type",
    "not_callable",
    "wrong_kind",
    "abstract",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about an object that a TOML names, or about an argument that is given to it.

    Attributes:
        kind: what kind of finding it is.
        message: what is wrong, in one line; names stand in backticks.
        argument: the name of the argument, or None where the finding is about the object itself.
        where: the place below `args`: the argument's name, then keys and list indices inside its value, such as
            `("betas", 1)`. For a missing argument it is empty: there is no such place.
        label: what to say at the caret, such as "did you mean `weight_decay`?"; may be empty.
        suggestion: the text that would be right in the TOML (a key for an unknown argument, a TOML value for a wrong
            one), if one is known.
        signature: the target's signature as one line, or "" where it can't be read.
    """

    kind: ProblemKind
    message: str
    argument: str | None = None
    where: tuple[str | int, ...] = ()
    label: str = ""
    suggestion: str | None = None
    signature: str = ""


def check_arguments(target: Any, args: Mapping[str, Any], *, injected: Collection[str] = ()) -> list[Problem]:
    """All that is wrong with the arguments of a call `target(**args)`, without calling anything.

    Nested tables with a `path` of their own are left alone: what they build is not known here.

    Args:
        target: the class, function or other callable that a `path` led to.
        args: the arguments as the TOML gives them, plain values.
        injected: names that AudioZEN passes itself: never missing, and not settable.

    Returns:
        The problems: those of the given arguments first, in their order, then the missing ones. Empty where the
        signature can't be read (some builtins).
    """
    raise NotImplementedError


def signature_text(target: Any, injected: Collection[str] = (), *, keep: Collection[str] = ()) -> str:
    """The signature in one line, without annotations, such as `RAdam(params, lr=0.001, betas=(0.9, 0.999), …)`.

    Args:
        target: the callable.
        injected: names that AudioZEN passes itself; more than two of them are shortened to `…`.
        keep: names of parameters to show even if the text has to be cut.

    Returns:
        The text, at most about 88 characters, or "" where the signature can't be read.
    """
    raise NotImplementedError


def build(target: Any, args: Mapping[str, Any], injected: Mapping[str, Any] | None = None) -> Any:
    """Calls the target with the arguments, and with those injected values that its signature takes.

    Values are made what the annotation asks for where TOML has no such type: a `Path` from a string, a tuple from an
    array, a dataclass from a table.

    Args:
        target: the callable.
        args: the arguments as the TOML gives them (nested tables already built).
        injected: values that AudioZEN passes itself, by name.

    Returns:
        What the target returns.

    Raises:
        Exception: whatever the target raises.
    """
    raise NotImplementedError


def expected_kind(section: str, target: Any, kinds: Mapping[str, type | tuple[type, ...]]) -> Problem | None:
    """Whether the object is what the section asks for.

    Args:
        section: the section of the TOML, such as `model_g` or `train_dataset`.
        target: the object that its `path` led to.
        kinds: the base class by kind of section (`model`, `dataset`, `optimizer`, `trainer`, …); a kind that is not
            there is not checked. The caller makes this table, since the base classes live on floors above.

    Returns:
        A problem of kind `not_callable`, `abstract` or `wrong_kind`, or None. A function may stand for a class (it is
        called as a factory), except for a trainer.
    """
    raise NotImplementedError
