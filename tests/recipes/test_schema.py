"""The JSON Schema of the recipes is tested with taplo. Editors use taplo to check TOML files."""

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from audiozen_core.config.json_schema import experiment_schema
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
