"""Makes the page of public names: what each name is, how it is called, and what it raises."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
import typing
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from inspect import Parameter
from pathlib import Path
from types import FunctionType
from typing import Any, Generic, Protocol

import audiozen
from audiozen_core.binding.docstrings import parameter_docs
from audiozen_core.binding.signature import default_text, signature_of
from audiozen_core.hooks.specs import Hooks
from audiozen_core.trainer.steps import Steps

FACE = Path(__file__).resolve().parents[1] / "audiozen"
STUBS = {
    ".".join(("audiozen", *stub.relative_to(FACE).with_suffix("").parts)).removesuffix(".__init__"): stub
    for stub in sorted(FACE.rglob("*.pyi"))
}
HEAD = """# Public names

Import these names from the package `audiozen`. A `path` in a TOML file uses the same spelling. These are public too:
the [hooks](hooks_reference.md), the sections and keys of a TOML file, the entry point groups, the names and arguments
of the components that come with AudioZEN, and the commands with their options. All other names may change without
notice, including everything in `audiozen_core` and `audiozen_plugins`.

A class is shown with its constructor and its methods, but without those that it only inherits from another class on
this page. Methods that a subclass is meant to define or change are marked *yours to override*; see
[Building on our classes](build_on_our_classes.md). In Python, `help(NAME)` shows the whole documentation.

The command `python -m tests.test_public_face` generates this page from the stubs in `audiozen/` and the docstrings.
"""
STEPS = tuple(name for name in vars(Steps) if not name.startswith("_"))
OVERRIDABLE = {
    "Ema": ("decay_at",),
    "BaseTrainer": STEPS,
    "EnhancementTrainer": ("enhance", "compare", *STEPS),
    "SeparationTrainer": ("enhance", "compare", *STEPS),
    **dict.fromkeys(
        ("AudioFolder", "DnsChallenge", "MixtureFolders", "NoisyCleanFolders", "NoisySpeechMix", "SpeakerMix"),
        ("__getitem__", "collate_fn"),
    ),
}
"""The methods that a subclass is meant to define or change, by class."""
_WIDTH = 100
_OURS = ("audiozen_core", "audiozen_plugins")
_TITLES = "Args|Attributes|Returns|Yields|Raises|Example|Examples"


def page() -> str:
    """Returns the text of the page. A name that several modules have is described in the first one."""
    parts = [HEAD]
    described: set[str] = set()
    for module in STUBS:
        found = import_module(module)
        links = ", ".join(f"[`{name}`](#{name.lower()})" for name in found.__all__)
        parts.append(f"## `{module}`\n\n{wrapped(summary(found))}\n{wrapped(links)}")
        parts += [entry(name, getattr(found, name)) for name in found.__all__ if name not in described]
        described.update(found.__all__)
    return "\n".join(parts)


def entry(name: str, value: Any) -> str:
    """Returns the section of one name: its signature, its arguments, what it returns and raises."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return f"### `{name}`\n\n{wrapped(constant_doc(name))}\n```python\n{constant(name, value)}\n```\n"
    code = class_stub(name, value) if inspect.isclass(value) else stub(name, value)
    parts = [f"### `{name}`\n", wrapped(summary(value)), "```python\n" + "\n".join(code) + "\n```\n"]
    parts += described(value)
    for call in calls(value):
        method = vars(value)[call]
        parts += [wrapped(f"`{call}`: {summary(method)}"), *described(method)]
    parts += offers(value) if inspect.isclass(value) else []
    return "\n".join(parts)


def offers(cls: type) -> Iterator[str]:
    """Yields what a class offers beside its arguments: attributes, methods, settings of the class, and hooks."""
    of_bases = [attribute_docs(base) for base in shown_classes(cls)]
    attributes = {name: text for docs in of_bases for name, text in docs.items() if not is_argument(cls, name)}
    if attributes:
        yield "Attributes:\n\n" + "".join(bullet(f"`{name}`: {text}") for name, text in attributes.items())
    yours = OVERRIDABLE.get(cls.__name__, ())
    if found := methods(cls):
        yield "Methods and properties:\n\n" + "".join(
            bullet(f"`{name}`{' (*yours to override*)' if name in yours else ''}: {summary(value)}")
            for name, value in found.items()
        )
    settings = {name: value for name, value in members(cls).items() if isinstance(value, bool | str | tuple | dict)}
    if settings:
        texts = {name: default(value) for name, value in settings.items()}
        shown = (f"`{name}`" if text == "..." else f"`{name} = {text}`" for name, text in texts.items())
        yield wrapped(f"Settings of the class: {', '.join(shown)}")
    if hooks := [name for name, value in members(cls).items() if hasattr(value, "audiozen_impl")]:
        every = set(hooks) == {name for name, value in vars(Hooks).items() if hasattr(value, "audiozen_spec")}
        yield wrapped("Hooks: every hook" if every else "Hooks: " + ", ".join(f"`{name}`" for name in hooks))


def described(value: Any) -> Iterator[str]:
    """Yields what a docstring says about arguments, results and errors."""
    found = sections(inspect.getdoc(value) or "")
    attributes = {name: text for name, text in attribute_docs(value).items() if is_argument(value, name)}
    if arguments := {**attributes, **named(found.get("Args", "")), **other_docs(value)}:
        yield "".join(bullet(f"`{argument}`: {text}") for argument, text in arguments.items())
    if "Returns" in found:
        yield wrapped(f"Returns: {' '.join(found['Returns'].split())}")
    if raised := named(found.get("Raises", "")):
        yield "Raises:\n\n" + "".join(bullet(f"`{error}`: {text}") for error, text in raised.items())


def constant(name: str, value: Any) -> str:
    if value is audiozen.hookimpl:
        return f"@{name}\ndef on_epoch_end(self, trainer, epoch): ..."
    if value is audiozen.hookspec:
        return f"@{name}\ndef acme_mixed(self, trainer, snr): ..."
    # A type is shown as it is written, because its `repr` spells out every alias.
    is_type = typing.get_origin(value) is not None
    text = double_quoted(ast.unparse(assignment(name)[0]) if is_type else repr(value)).replace("typing.", "")
    if len(text) > _WIDTH and isinstance(value, tuple):
        text = "\n".join(["(", *(f"    {double_quoted(repr(each))}," for each in value), ")"])
    return f"{name} = {text}"


def constant_doc(name: str) -> str:
    return " ".join(inspect.cleandoc(assignment(name)[1]).split("\n\n")[0].split())


def assignment(name: str) -> tuple[ast.expr, str]:
    """Returns the value of a constant, and the string that follows its assignment, in the module that defines it."""
    (home,) = {
        node.module
        for stub in STUBS.values()
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names)
    }
    body = ast.parse(inspect.getsource(import_module(home))).body
    for node, after in itertools.pairwise(body):
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        if name in names and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            return node.value, after.value.value
    raise ValueError(f"add a docstring after `{name}` in {home}")


def summary(value: Any) -> str:
    """Returns the first paragraph of the documentation."""
    return " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())


# ------------------------------------------------------------------------------------------ docstrings


def sections(text: str) -> dict[str, str]:
    """Returns the sections of a docstring, such as `Args`, by title."""
    parts = re.split(rf"(?:^|\n\n)(?=(?:{_TITLES}):\n)", text)[1:]
    found = (part.split("\n\n")[0].partition(":\n") for part in parts)
    return {title: inspect.cleandoc(f"\n{rest}") for title, _, rest in found}


def named(text: str) -> dict[str, str]:
    """Returns the entries of a section, each of which begins with a name and a colon."""
    lines = re.sub(r"\n +", " ", text).splitlines()
    return dict(line.split(": ", 1) for line in lines)


def attribute_docs(value: Any) -> dict[str, str]:
    """Returns the attributes that the docstring of an object itself describes, not that of a base."""
    return named(sections(inspect.cleandoc(value.__doc__ or "")).get("Attributes", ""))


def is_argument(value: Any, name: str) -> bool:
    return is_protocol(value) or name in inspect.signature(value).parameters


def other_docs(value: Any) -> dict[str, str]:
    """Returns the descriptions of fields, from their metadata, and of arguments that go to a private base."""
    docs = parameter_docs(value)
    fields = dataclasses.fields(value) if inspect.isclass(value) and dataclasses.is_dataclass(value) else ()
    in_metadata = {field.name: f"{field.metadata['doc']}." for field in fields if "doc" in field.metadata}
    return in_metadata | {name: docs[name] for name in inherited_parameters(value) if name in docs}


def bullet(text: str) -> str:
    return wrapped(text, first="- ", rest="  ")


def wrapped(text: str, *, first: str = "", rest: str = "") -> str:
    lines = textwrap.wrap(
        text, 120, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------ signatures


def class_stub(name: str, cls: type) -> list[str]:
    """Returns a class as a stub, with its constructor, or with the attributes of a protocol, and with its methods."""
    base = shown_base(cls)
    head = f"class {name}({class_name(base)}):" if base else f"class {name}:"
    if is_protocol(cls):
        body = [f"{name}: {double_quoted(value)}" for name, value in inspect.get_annotations(cls).items()]
    else:
        inherits = base in public_classes() and inspect.signature(cls) == inspect.signature(base)
        body = [] if inherits else stub("__init__", cls)
    shown = {**{name: vars(cls)[name] for name in calls(cls)}, **methods(cls)}
    for lines in (method_stub(name, value) for name, value in shown.items()):
        # ruff wants an empty line after attributes and before a decorator.
        separate = bool(body) and (lines[0].startswith("@") or not body[-1].endswith("..."))
        body += [""] * separate + lines
    return [head, *(f"    {line}".rstrip() for line in body)] if body else [f"{head} ..."]


def calls(value: Any) -> list[str]:
    """Returns the methods that run when an object of a class is called, such as a metric or a network."""
    return [name for name in ("__call__", "forward") if inspect.isclass(value) and name in vars(value)]


def class_name(cls: type) -> str:
    return f"nn.{cls.__name__}" if cls.__module__.startswith("torch.nn.") else cls.__name__


def is_protocol(cls: type) -> bool:
    return bool(getattr(cls, "_is_protocol", False))


def members(cls: type) -> dict[str, Any]:
    """Returns the public members that a class and its private bases define, without the specs of hooks."""
    found: dict[str, Any] = {}
    for base in shown_classes(cls):
        for name, value in vars(base).items():
            if (not name.startswith("_") or name == "__getitem__") and not hasattr(value, "audiozen_spec"):
                found.setdefault(name, value)
    return found


def methods(cls: type) -> dict[str, Any]:
    """Returns the methods and properties of a class, except `calls` and hooks. The overridable ones come first."""
    kinds = (property, classmethod, staticmethod, FunctionType)
    found = {
        name: value
        for name, value in members(cls).items()
        if isinstance(value, kinds) and not hasattr(value, "audiozen_impl") and name not in calls(cls)
    }
    yours = OVERRIDABLE.get(cls.__name__, ())
    return dict(sorted(found.items(), key=lambda item: item[0] not in yours))


def method_stub(name: str, value: Any) -> list[str]:
    if isinstance(value, property):
        return ["@property", *stub(name, value.fget)]
    if isinstance(value, classmethod | staticmethod):
        return [f"@{type(value).__name__}", *stub(name, value.__func__)]
    return stub(name, value)


def shown_classes(cls: type) -> list[type]:
    """Returns the class and its private bases, whose members it shows as its own."""
    return [cls, *(base for base in cls.__mro__[1:] if base.__module__.startswith(_OURS) and not is_shown(base, cls))]


def is_shown(base: type, cls: type) -> bool:
    """Returns whether a base, or one that is derived from it, has a section of its own."""
    return any(issubclass(public, base) and issubclass(cls, public) for public in public_classes() - {cls})


@cache
def public_classes() -> set[type]:
    values = (getattr(import_module(module), name) for module in STUBS for name in import_module(module).__all__)
    return {value for value in values if inspect.isclass(value)}


def shown_base(cls: type) -> type | None:
    """Returns the nearest base that readers know: a public one, or one of another package."""
    if is_protocol(cls):
        return Protocol  # type: ignore[return-value]
    known = (base for base in cls.__mro__[1:] if base in public_classes() or not base.__module__.startswith(_OURS))
    return next((base for base in known if base not in (object, Generic, Protocol)), None)


def stub(name: str, target: Any) -> list[str]:
    """Returns a function, or the constructor of a class, as a stub, with a line for each argument if it is long."""
    signature = inspect.signature(target)
    constructor = name == "__init__"
    parts = ["self"] * constructor + list(parameter_texts([*signature.parameters.values()], target))
    returns = "None" if constructor else annotation_text(signature.return_annotation)
    ending = f") -> {returns}: ..." if returns else "): ..."
    context = inspect.isgeneratorfunction(getattr(target, "__wrapped__", None))
    line = f"def {name}({', '.join(parts)}{ending}"
    lines = [line] if len(line) <= _WIDTH else [f"def {name}(", *(f"    {part}," for part in parts), ending]
    return ["@contextmanager", *lines] if context else lines


def parameter_texts(parameters: list[Parameter], target: Any) -> Iterator[str]:
    if parameters and parameters[-1].kind is Parameter.VAR_KEYWORD:
        parameters[-1:] = [*inherited_parameters(target).values(), parameters[-1]]
    for index, parameter in enumerate(parameters):
        before = parameters[index - 1].kind if index else None
        if parameter.kind is Parameter.KEYWORD_ONLY and before not in (
            Parameter.KEYWORD_ONLY,
            Parameter.VAR_POSITIONAL,
        ):
            yield "*"
        if before is Parameter.POSITIONAL_ONLY and parameter.kind is not Parameter.POSITIONAL_ONLY:
            yield "/"
        yield parameter_text(parameter)
    if parameters and parameters[-1].kind is Parameter.POSITIONAL_ONLY:
        yield "/"


def inherited_parameters(target: Any) -> dict[str, Parameter]:
    """Returns the parameters that a constructor passes on, in `**kwargs`, to bases that are not public."""
    if not inspect.isclass(target):
        return {}
    own, base = inspect.signature(target).parameters, shown_base(target)
    if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in own.values()) or base not in public_classes():
        return {}
    whole, known = signature_of(target), inspect.signature(base).parameters
    names = [parameter.name for parameter in whole.parameters] if whole else []
    # `signature_of` resolves annotations. The page shows them as the source spells them.
    written = [inspect.signature(each.__init__).parameters for each in target.__mro__ if "__init__" in vars(each)]
    return {
        name: next(parameters[name] for parameters in written if name in parameters)
        for name in names
        if name not in own and name not in known
    }


def parameter_text(parameter: Parameter) -> str:
    stars = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    annotation = annotation_text(parameter.annotation)
    text = f"{stars}{parameter.name}: {annotation}" if annotation else f"{stars}{parameter.name}"
    if parameter.default is Parameter.empty:
        return text
    return f"{text} = {default(parameter.default)}" if annotation else f"{text}={default(parameter.default)}"


def default(value: Any) -> str:
    """Formats a default; one without a short text becomes an ellipsis."""
    text = default_text(value).replace("PosixPath(", "Path(")
    return "..." if len(text) > 60 or re.search(r"^<| at 0x", text) else double_quoted(text)


def annotation_text(annotation: Any) -> str:
    if annotation is Parameter.empty:
        return ""
    return double_quoted(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))


def double_quoted(text: str) -> str:
    """Writes strings as the source does. `inspect` gives annotations and defaults single quotes."""
    return text if '"' in text else text.replace("'", '"')
