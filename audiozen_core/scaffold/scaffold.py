"""New plugins and recipes from templates: `audiozen new`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from audiozen_core import __version__
from audiozen_core.errors import RunError

_TEMPLATES = Path(__file__).parent / "templates"
_SUFFIX = ".template"
_PREFIX = "audiozen-plugin-"
_PLUGIN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RECIPE = re.compile(r"[a-z][a-z0-9_]*")
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_MINI_CORPUS = Path("recipes", "mini_denoise", "corpus", "manifest.csv")


def new_plugin(name: str, into: Path) -> Path:
    """Writes a package with a loss, a model, a hook and their tests, ready for `pip install -e`.

    Args:
        name: such as `acme`; the distribution is `audiozen-plugin-acme`.
        into: the folder in which its own is made.

    Returns:
        The folder of the package.

    Raises:
        RunError: the name won't do, or something is there already.
    """
    short = name.removeprefix(_PREFIX)
    if not _PLUGIN.fullmatch(short):
        raise RunError(
            f"`{name}` is no name for a plugin", remedy="use small letters, digits and hyphens, such as `acme-losses`"
        )
    distribution = f"{_PREFIX}{short}"
    values = {
        "distribution": distribution,
        "module": distribution.replace("-", "_"),
        "name": short.replace("-", "_"),
        "versions": _compatible(__version__),
    }
    return _write("plugin", into / distribution, values)


def new_recipe(name: str, into: Path, manifest: Path | None = None) -> Path:
    """Writes a recipe with a TOML file and a model of its own.

    Args:
        name: `DATASET/MODEL`.
        into: the folder of the recipes.
        manifest: the table of recordings to train on; by default that of the small corpus, found beside AudioZEN or
            above `into`.

    Returns:
        The folder of the recipe.

    Raises:
        RunError: the name won't do, something is there already, or no corpus is found.
    """
    parts = name.split("/")
    if len(parts) != 2 or not all(_RECIPE.fullmatch(part) for part in parts):
        raise RunError(
            f"`{name}` is no name for a recipe", remedy="write DATASET/MODEL, in small letters, digits and underscores"
        )
    folder = into.joinpath(*parts)
    found = manifest or _mini_corpus(into)
    if found is None or not found.is_file():
        raise RunError(
            f"there is no manifest {found}" if found else "the small corpus is not there",
            remedy="name a table of recordings with --manifest FILE",
        )
    relative = Path(os.path.relpath(found.resolve(), folder.resolve())).as_posix()
    command = Path(os.path.relpath(folder / "baseline.toml")).as_posix()
    values = {"dataset": parts[0], "model": parts[1], "manifest": f"${{here}}/{relative}", "command": command}
    return _write("recipe", folder, values)


def _write(template: str, folder: Path, values: Mapping[str, str]) -> Path:
    """Fills in a template; nothing that exists is touched."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is there already; nothing has been touched", remedy="choose another name")
    for path, text in _files(_TEMPLATES / template):
        target = folder / path.replace("__module__", values.get("module", ""))
        target.parent.mkdir(parents=True, exist_ok=True)
        # Double braces that are not ours belong to the file, as in the expressions of a workflow.
        target.write_text(_PLACEHOLDER.sub(lambda match: values[match[1]], text), encoding="utf-8")
    return folder


def _files(root: Path) -> Iterator[tuple[str, str]]:
    """Relative path and text of each file. Only what ends in `.template` is one: an editor may leave others there."""
    for path in sorted(root.rglob(f"*{_SUFFIX}")):
        name = path.relative_to(root).as_posix().removesuffix(_SUFFIX)
        yield (".gitignore" if name == "gitignore" else name), path.read_text(encoding="utf-8")


def _mini_corpus(into: Path) -> Path | None:
    places = [Path(__file__).parents[2], *into.resolve().parents, into.resolve()]
    return next((place / _MINI_CORPUS for place in places if (place / _MINI_CORPUS).is_file()), None)


def _compatible(version: str) -> str:
    """The versions that keep the same promises: before 1.0 those of one minor version.

    >>> _compatible("0.1.3"), _compatible("2.4.0")
    ('>=0.1,<0.2', '>=2.4,<3')
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    return f">={major}.{minor},<{major}.{minor + 1}" if major == 0 else f">={major}.{minor},<{major + 1}"
