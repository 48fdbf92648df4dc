"""Creates plugins and recipes from templates, for `audiozen new`."""

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
_MINI_MANIFEST = Path("recipes", "mini_denoise", "corpus", "manifest.csv")


def new_plugin(name: str, into: Path) -> Path:
    """Writes a package with a loss, a model, a hook and their tests, ready for `pip install -e`.

    Args:
        name: the name of the plugin. The short name `acme` gives the distribution `audiozen-plugin-acme`.
        into: the folder in which the package is created.

    Returns:
        The folder of the package.

    Raises:
        RunError: the name is invalid, or the folder is not empty.
    """
    short = name.removeprefix(_PREFIX)
    if not _PLUGIN.fullmatch(short):
        raise RunError(
            f"`{name}` is not a valid plugin name", remedy="use lower-case letters, digits and hyphens: `acme-losses`"
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
    """Writes a recipe with a TOML file and its own model.

    Args:
        name: `DATASET/MODEL`, such as `mini_denoise/gru`.
        into: the folder in which the recipe is created.
        manifest: a CSV file that lists the recordings to train on. By default, the manifest of the small corpus
            `mini_denoise`, which is searched for in AudioZEN's repository, in `into` and in the folders above `into`.

    Returns:
        The folder of the recipe.

    Raises:
        RunError: the name is invalid, the folder is not empty, or the manifest does not exist.
    """
    parts = name.split("/")
    if len(parts) != 2 or not all(_RECIPE.fullmatch(part) for part in parts):
        raise RunError(
            f"`{name}` is not a valid recipe name",
            remedy="write DATASET/MODEL, in lower-case letters, digits and underscores",
        )
    folder = into.joinpath(*parts)
    manifest = manifest or _mini_manifest(into)
    if manifest is None or not manifest.is_file():
        raise RunError(
            f"the manifest {manifest} does not exist" if manifest else "the small corpus was not found",
            remedy="give the manifest of your recordings, a CSV file that lists them, with --manifest FILE",
        )
    relative = Path(os.path.relpath(manifest.resolve(), folder.resolve())).as_posix()
    file = Path(os.path.relpath(folder / "baseline.toml")).as_posix()
    values = {"dataset": parts[0], "model": parts[1], "manifest": f"${{here}}/{relative}", "file": file}
    return _write("recipe", folder, values)


def _write(template: str, folder: Path, values: Mapping[str, str]) -> Path:
    """Writes the files of a template into a new or empty folder. Returns the folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} already exists; nothing has been changed", remedy="choose another name")
    for path, text in _files(_TEMPLATES / template):
        target = folder / path.replace("__module__", values.get("module", ""))
        target.parent.mkdir(parents=True, exist_ok=True)
        # Only `{{word}}` is a placeholder. With spaces, as in `${{ matrix.python }}` of a workflow, it stays unchanged.
        target.write_text(_PLACEHOLDER.sub(lambda match: values[match[1]], text), encoding="utf-8")
    return folder


def _files(root: Path) -> Iterator[tuple[str, str]]:
    """Yields the relative path and the text of each file of a template.

    Files without the suffix `.template`, such as an editor's backups, do not belong to the template.
    """
    for path in sorted(root.rglob(f"*{_SUFFIX}")):
        yield path.relative_to(root).as_posix().removesuffix(_SUFFIX), path.read_text(encoding="utf-8")


def _mini_manifest(into: Path) -> Path | None:
    folders = [Path(__file__).parents[2], *into.resolve().parents, into.resolve()]
    manifests = (folder / _MINI_MANIFEST for folder in folders)
    return next((manifest for manifest in manifests if manifest.is_file()), None)


def _compatible(version: str) -> str:
    """Returns a version specifier for the versions of AudioZEN with the same public API.

    Before 1.0, a minor version may change the API.

    >>> _compatible("0.1.3"), _compatible("2.4.0")
    ('>=0.1,<0.2', '>=2.4,<3')
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    return f">={major}.{minor},<{major}.{minor + 1}" if major == 0 else f">={major}.{minor},<{major + 1}"
