"""Renders pages from templates. All values are escaped, so HTML in a value is displayed as text."""

from __future__ import annotations

import functools
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import audiozen_core

if TYPE_CHECKING:
    from jinja2 import Environment

ASSETS = Path(__file__).parent / "assets"


def render_page(template: str, folders: Sequence[Path] = (), **values: Any) -> str:
    """Renders a page.

    A template extends `shell.html`, which has the head, the style, the navigation and the footer, and fills its blocks.

    Args:
        template: the file name of the template.
        folders: the folders that are searched for templates and assets, before the folder that all pages share.
        values: the variables of the template. `title` is required.

    Returns:
        The HTML of the page. Write it to a file with `write_whole`.
    """
    made = datetime.now(timezone.utc).astimezone()
    page = _environment(tuple(folders)).get_template(template)
    return page.render(made=made, version=audiozen_core.__version__, **values)


def json_for_script(data: Any) -> str:
    """Returns data as JSON that is safe in a `<script>` element. NaN and infinity become null."""
    text = json.dumps(_finite(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # `</script>` within a string would end the element, and `<!--` would hide the end of the element.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@functools.lru_cache
def _environment(folders: tuple[Path, ...]) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    searched = [*folders, ASSETS]

    def asset(name: str) -> Markup:
        """Includes one of our scripts or style sheets without escaping it."""
        found = next(folder / name for folder in searched if (folder / name).is_file())
        return Markup(found.read_text(encoding="utf-8"))

    environment = Environment(
        loader=FileSystemLoader(searched),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = asset
    environment.filters["json"] = lambda data: Markup(json_for_script(data))
    environment.filters["clock"] = clip_time
    environment.filters["code"] = lambda text: Markup(code_in(text))
    return environment


def code_in(text: str) -> str:
    """Converts a message to HTML. Text between backticks becomes code.

    Example:
        >>> code_in("the run `a<b` has no test")
        'the run <code>a&lt;b</code> has no test'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def clip_time(seconds: float) -> str:
    """Formats a time as minutes and seconds, such as `1:05.3`."""
    minutes, rest = divmod(round(seconds * 10), 600)
    return f"{minutes}:{rest / 10:04.1f}"


def _finite(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, (list, tuple)) else data
