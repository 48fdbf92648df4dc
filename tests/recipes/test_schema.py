"""The JSON Schema of the recipes is tested with taplo. Editors use taplo to check TOML files."""

import dataclasses
import json
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Annotated, Literal

import pytest

from audiozen_core.binding.ranges import Range
from audiozen_core.config.json_schema import _table, experiment_schema
from audiozen_core.registry.index import PluginIndex, installed_index

from .test_recipes import FILES, RECIPES

SCHEMA = RECIPES / "audiozen.schema.json"
TAPLO = Path(sysconfig.get_path("scripts")) / "taplo"


def lint(path):
    return subprocess.run([TAPLO, "lint", str(path)], capture_output=True, text=True, check=False)


def test_schema_in_the_recipes_is_up_to_date():
    """If this fails, run `audiozen schema -o recipes/audiozen.schema.json`."""
    own = PluginIndex([entry for entry in installed_index().entries() if entry.distribution == "audiozen"])
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == json.loads(json.dumps(experiment_schema(own)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_recipe_is_valid_according_to_the_schema(path):
    assert path.read_text(encoding="utf-8").startswith("#:schema ")
    outcome = lint(path)
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("max_epochs", "max_epocs"),
        ('split = "train"', 'splitt = "train"'),
        ("[optimizer]", "[optimiser]"),
        ("seed = 0", 'seed = "none"'),
        ('domain = "magnitude"', 'domain = "phase"'),
        ("batch_size", "batchsize"),
    ],
)
def test_mistake_in_a_recipe_is_found_with_the_schema(tmp_path, right, wrong):
    text = (RECIPES / "mini_denoise/sdnn/baseline.toml").read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "a" / "b").mkdir(parents=True)
    shutil.copy(SCHEMA, tmp_path)
    invalid = tmp_path / "a" / "b" / "invalid.toml"
    invalid.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    outcome = lint(invalid)
    assert outcome.returncode != 0
    assert wrong.split()[0].strip("[]") in outcome.stderr or "none" in outcome.stderr or "phase" in outcome.stderr


def test_component_names_in_the_schema_have_descriptions():
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    names = {
        entry["enum"][0]: entry["description"]
        for entry in schema["definitions"]["model"]["properties"]["path"]["anyOf"]
        if "enum" in entry
    }
    assert names["sdnn"].startswith("A sigma-delta network")


def test_each_limit_of_a_range_is_in_the_schema():
    @dataclasses.dataclass
    class Table:
        share: Annotated[float, Range(above=0, below=1)] = 0.5
        count: Annotated[int, Range(least=1, most=8)] | Literal["auto"] = 1
        size: Annotated[int, Range(least=2)] = 2

    limits = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    properties = _table(Table, None, PluginIndex([]))["properties"]
    found = {name: {key: value for key, value in of.items() if key in limits} for name, of in properties.items()}
    assert found == {
        "share": {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "count": {"minimum": 1, "maximum": 8},
        "size": {"minimum": 2},
    }
    meta = experiment_schema(PluginIndex([]))["definitions"]["meta"]["properties"]
    assert (meta["num_threads"]["minimum"], meta["num_threads"]["maximum"]) == (1, 1024)
