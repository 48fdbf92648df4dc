"""The reference page of the hooks, generated from their specs."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from audiozen_core.hooks import specs
from audiozen_core.hooks.checks import HOOK_NAMES

SPECS = Path(specs.__file__)
PAGE = SPECS.parents[2] / "docs" / "hooks_reference.md"
HEAD = """# Hooks, one by one

All hooks, in the order of a run. [Write a hook](write_a_hook.md) explains how to write one. A method names only the
arguments that it needs. Where a hook says "The first answer counts", the plugins after the one that answered are not
asked. `False` and an empty text do not count as answers. A value that is not of the type in the signature is an error.
It is also an error to return a value from a hook whose signature says `-> None`. Plugins are called in the order of
their phases, within a phase as their `before` and `after` say, and otherwise by name.

This page is generated from `audiozen_core/hooks/specs.py` by `python -m tests.core.hooks.test_hooks_reference`.
"""
SECTION = re.compile(r"^    # -{20,} (?P<title>.+)$|^    def (?P<hook>\w+)\(", re.MULTILINE)


def page() -> str:
    """Returns the text of the page."""
    parts = [HEAD]
    for match in SECTION.finditer(SPECS.read_text(encoding="utf-8")):
        if match["title"]:
            parts.append(f"## {match['title'].capitalize()}\n")
        elif match["hook"] in HOOK_NAMES:
            parts.append(entry(match["hook"]))
    return "\n".join(parts)


def entry(hook: str) -> str:
    """Returns the signature and the docstring of one hook as Markdown."""
    spec = getattr(specs.Hooks, hook)
    text = inspect.getdoc(spec) or ""
    body, *sections = re.split(r"\n\n(?=(?:Args|Returns|Raises):\n)", text)
    lines = [f"### `{hook}`\n", f"```python\n{stub(hook)}\n```\n", f"{body}\n"]
    for section in sections:
        title, _, rest = section.partition(":\n")
        rest = inspect.cleandoc(f"\n{rest}")
        if title == "Args":
            rows = re.sub(r"\n +", " ", rest).splitlines()
            lines.append("\n".join("- `{}`: {}".format(*row.split(": ", 1)) for row in rows) + "\n")
        else:
            lines.append(f"{title}: {rest}\n")
    if (spec.audiozen_spec or {}).get("firstresult"):
        lines.append("The first answer counts.\n")
    return "\n".join(lines)


def stub(hook: str) -> str:
    """Returns a hook as code, with a line for each argument if it is long."""
    text = str(inspect.signature(getattr(specs.Hooks, hook))).replace("'", "").replace("(self, ", "(")
    line = f"def {hook}{text}: ..."
    if len(line) <= 120:
        return line
    parameters = list(inspect.signature(getattr(specs.Hooks, hook)).parameters.values())[1:]
    rows = [f"    {str(parameter).replace(chr(39), '')},\n" for parameter in parameters]
    return f"def {hook}(\n{''.join(rows)}){text.rpartition(')')[2]}: ..."


def test_page_matches_the_hook_specs():
    """If this fails: python -m tests.core.hooks.test_hooks_reference."""
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("hook", HOOK_NAMES)
def test_page_shows_every_hook_with_its_full_signature(hook):
    text = PAGE.read_text(encoding="utf-8")
    assert f"\n{stub(hook)}\n" in text
    (code,) = ast.parse(stub(hook)).body
    arguments = [argument.arg for argument in code.args.args]
    assert arguments == [name for name in inspect.signature(getattr(specs.Hooks, hook)).parameters if name != "self"]


@pytest.mark.parametrize("hook", HOOK_NAMES)
def test_every_hook_has_a_complete_docstring_and_typed_arguments(hook):
    spec = getattr(specs.Hooks, hook)
    text = inspect.getdoc(spec)
    assert len(text.splitlines()[0].split()) >= 4
    returns = inspect.signature(spec).return_annotation
    assert (returns == "None") is ("Returns:" not in text)
    for name, parameter in list(inspect.signature(spec).parameters.items())[1:]:
        assert parameter.annotation is not parameter.empty, name


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
