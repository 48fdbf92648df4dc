from __future__ import annotations

import importlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import audiozen.trainer
import audiozen_plugins.model
from audiozen_core.diagnostics import codes
from audiozen_core.errors import AudioZenError, MissingExtraError
from audiozen_core.registry.entry import Entry
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.index import PluginIndex, installed_index
from audiozen_core.registry.paths import load_entry, resolve
from audiozen_core.registry.scope import ImportScope


def failure(path, **options):
    with pytest.raises(PathError) as caught:
        resolve(path, **options)
    return caught.value


def outcome(path, **options):
    """Returns the AudioZenError that `resolve` raises, or None. Does not catch other exceptions."""
    try:
        resolve(path, **options)
    except AudioZenError as error:
        return error
    return None


# ------------------------------------------------------------------------------------------ the four forms


def test_name_resolves_to_the_installed_component():
    found = resolve("sdnn", section="model_g")
    assert found.dotted == "audiozen_plugins.model.sdnn.SDNN"
    assert found.target.__name__ == "SDNN"
    assert found.entry.distribution == "audiozen"


def test_distribution_and_name_resolve_to_the_installed_component():
    assert resolve("audiozen:sdnn", section="model").target is resolve("sdnn", section="model").target


@pytest.mark.parametrize(
    "path",
    [
        "torch.optim.RAdam",
        "torch.nn.MSELoss",
        "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "torch.nn.functional.mse_loss",
        "torchaudio.models.ConvTasNet",
        "fractions.Fraction.from_float",
    ],
)
def test_dotted_path_resolves_to_the_python_object(path):
    found = resolve(path)
    assert found.target.__name__ == path.rpartition(".")[2]
    assert found.dotted == path
    assert found.entry is None


@pytest.mark.parametrize(
    ("path", "home"),
    [
        ("audiozen.trainer.base_trainer.BaseTrainer", "audiozen_core.trainer.base_trainer"),
        ("audiozen.loss.SoftDTWLoss", "audiozen_plugins.loss.soft_dtw"),
    ],
)
def test_path_in_the_public_package_resolves_to_its_lazy_import(path, home):
    found = resolve(path)
    module, _, name = path.rpartition(".")
    assert found.dotted == path
    assert found.target is getattr(importlib.import_module(module), name)
    assert found.target.__module__ == home


def test_module_added_to_the_public_package_is_found(write, monkeypatch):
    folder = write("trainer", custom_trainer="class CustomTrainer: ...")
    monkeypatch.setattr(audiozen.trainer, "__path__", [*audiozen.trainer.__path__, str(folder)])
    assert resolve("audiozen.trainer.custom_trainer.CustomTrainer").target.__name__ == "CustomTrainer"


def test_public_name_in_a_failing_module_is_an_import_failure(write, monkeypatch):
    folder = write("model", sdnn="raise ValueError")
    monkeypatch.setattr(audiozen_plugins.model, "__path__", [str(folder)])
    monkeypatch.delitem(sys.modules, "audiozen_plugins.model.sdnn")
    assert failure("audiozen.model.SDNN").code == codes.IMPORT_FAILED


def test_local_module_is_found_only_inside_its_scope(write):
    with ImportScope([write("a", trainer="class Trainer: ...")]):
        assert resolve("trainer.Trainer").target.__name__ == "Trainer"
    error = failure("trainer.Trainer")
    assert error.code == codes.NO_MODULE
    assert "`trainer.py`" in error.remedy


# ------------------------------------------------------------------------------------------ how the form is chosen


def test_name_without_dots_is_a_component_and_not_a_module(write):
    with ImportScope([write("a", sdnn="class Model: ...")]):
        assert resolve("sdnn", section="model").entry.name == "sdnn"
        assert resolve("sdnn.Model", section="model").entry is None


def test_component_with_dots_in_its_name_does_not_shadow_a_dotted_path():
    evil = Entry("audiozen.optimizer", "torch.optim.RAdam", "fractions:Fraction", "evil", "1.0")
    index = PluginIndex([evil])
    assert resolve("torch.optim.RAdam", section="optimizer", index=index).target.__name__ == "RAdam"
    assert resolve("evil:torch.optim.RAdam", section="optimizer", index=index).target.__name__ == "Fraction"


def test_attribute_shadows_a_submodule_of_the_same_name(write):
    packages = {
        "az_pack/__init__": "from az_pack.model import model",
        "az_pack/model": "def model(): ...\nclass Net: ...",
    }
    with ImportScope([write("a", packages)]):
        assert resolve("az_pack.model").target.__name__ == "model"
        assert resolve("az_pack.model.Net").target.__name__ == "Net"


def test_resolve_imports_only_the_modules_in_the_path(write):
    packages = {"az_pack/__init__": "", "az_pack/used": "class A: ...", "az_pack/other": "raise SystemExit"}
    with ImportScope([write("a", packages)]):
        resolve("az_pack.used.A")
        assert "az_pack.other" not in sys.modules


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("path", "code", "suggestion"),
    [
        ("torch.optim.RAdm", codes.NO_ATTRIBUTE, "torch.optim.RAdam"),
        ("torch.optm.RAdam", codes.NO_MODULE, "torch.optim.RAdam"),
        ("tourch.optim.RAdam", codes.NO_MODULE, "torch.optim.RAdam"),
        ("torch.nn.MSELos.forward", codes.NO_MODULE, "torch.nn.MSELoss.forward"),
        ("torch.nn.MSELoss.foward", codes.NO_ATTRIBUTE, "torch.nn.MSELoss.forward"),
        ("torch.optim.radam", codes.IS_MODULE, "torch.optim.radam.RAdam"),
        ("audiozen.trainer.base_trainer", codes.IS_MODULE, "audiozen.trainer.base_trainer.BaseTrainer"),
        ("audiozen.trainer.base_trainer.BaseTrainr", codes.NO_ATTRIBUTE, "audiozen.trainer.base_trainer.BaseTrainer"),
        ("audiozen.loss.SoftDTW", codes.NO_ATTRIBUTE, "audiozen.loss.SoftDTWLoss"),
        ("audiozen.los.SoftDTWLoss", codes.NO_MODULE, "audiozen.loss.SoftDTWLoss"),
        ("audiozn.model.SDNN", codes.NO_MODULE, "audiozen.model.SDNN"),
        ("./trainer.Trainer", codes.MALFORMED_PATH, "trainer.Trainer"),
        ("recipes/sdnn/model.Model", codes.MALFORMED_PATH, "recipes.sdnn.model.Model"),
        ("trainer.Trainer()", codes.MALFORMED_PATH, "trainer.Trainer"),
        (" torch.optim.RAdam", codes.MALFORMED_PATH, "torch.optim.RAdam"),
        ("torch..optim.RAdam", codes.MALFORMED_PATH, "torch.optim.RAdam"),
        ("fractions.Nothing", codes.NO_ATTRIBUTE, None),
        ("no_such_module_at_all.Thing", codes.NO_MODULE, None),
    ],
)
def test_error_for_a_wrong_path_has_a_code_and_a_suggestion(path, code, suggestion):
    error = failure(path)
    assert (error.code, error.suggestion) == (code, suggestion)
    if suggestion:
        assert error.label == f"did you mean `{suggestion}`?"


@pytest.mark.parametrize(
    "path", ["", "  ", ".", "..", "a..b", "a.b.", ":", "a:", ":b", "a b", "a\x00b", "a\nb", "1.2", "a.1"]
)
def test_malformed_path_is_an_error(path):
    error = failure(path)
    assert error.code == codes.MALFORMED_PATH
    assert error.message.isprintable()


@pytest.mark.parametrize("path", ["a" * 10_000_000, "a." * 100_000 + "a", "torch" + ".optim" * 50])
def test_very_long_path_is_an_error_with_a_short_message(path):
    assert failure(path).code == codes.MALFORMED_PATH
    assert len(str(failure(path))) < 500


@pytest.mark.parametrize("path", [3, 1.5, True, None, ["a"], {"path": "a"}])
def test_path_that_is_not_a_string_is_an_error(path):
    assert "a `path` must be a string" in failure(path).message


def test_path_that_does_not_exist_is_not_suggested():
    error = failure("torch.optm.NoSuchThing")
    assert error.suggestion is None
    assert "`optim`" in error.label


def test_lazy_name_is_suggested_without_importing_it():
    assert failure("audiozen.model.sdnn.SDNN").suggestion == "audiozen.model.SDNN"
    error = failure("audiozen.model.sdnn.Other")
    assert error.suggestion is None
    assert error.label == "did you mean `SDNN`?"


@pytest.mark.parametrize(
    "path",
    [
        "trainer.Trainer",
        "train.Trainer",
        "model.Model",
        "mode.Model",
        "models.Model",
        "data.Model",
        "network.Net",
        "loss.Loss",
        "losses.Loss",
        "dataset.Dataset",
        "datasets.Dataset",
        "dataloader.Dataset",
        "metrics.Snr",
    ],
)
def test_module_that_happens_to_be_installed_is_not_suggested_for_a_missing_module_of_a_recipe(path):
    error = failure(path)
    assert (error.suggestion, error.label) == (None, "")
    assert f"put `{path.partition('.')[0]}.py` in the folder of the TOML file" in error.remedy


def test_similar_module_of_the_recipe_is_suggested_if_it_has_the_name(write):
    with ImportScope([write("a", trainer="from torch import nn\nclass Trainer: ...\nother = 1\ndef build(): ...")]):
        for name in ("Trainer", "other", "build", "nn"):
            assert failure(f"trianer.{name}").suggestion == f"trainer.{name}"
        error = failure("trianer.Model")
        assert "trainer" not in sys.modules
    assert (error.suggestion, error.label) == (None, "did you mean `trainer`?")


def test_similar_package_of_the_recipe_is_suggested_if_its_module_has_the_name(write):
    packages = {"models/__init__": "1 / 0", "models/net": "class Net: ..."}
    with ImportScope([write("a", packages)]):
        assert failure("modells.net.Net").suggestion == "models.net.Net"
        assert failure("modells.net.Other").suggestion is None


@pytest.mark.parametrize(
    ("path", "section", "suggestion"),
    [
        ("torch.Adam", "optimizer", "torch.optim.Adam"),
        ("optim.Adam", "optimizer_g", "torch.optim.Adam"),
        ("adam", "optimizer", "torch.optim.Adam"),
        ("torch.optim.StepLR", "lr_scheduler", "torch.optim.lr_scheduler.StepLR"),
        ("torch.L1loss", "loss_function", "torch.nn.L1Loss"),
        ("torch.Adam", "model", None),
        ("torch.Adam", None, None),
    ],
)
def test_class_of_torch_is_suggested_where_a_section_can_use_it(path, section, suggestion):
    assert failure(path, section=section).suggestion == suggestion


def test_function_is_not_suggested_for_a_class():
    """Without this rule, `torch.addmv` would be the nearest name."""
    assert failure("torch.Addm").suggestion is None
    assert failure("torch.addm").suggestion is not None


def test_error_for_a_missing_attribute_lists_the_existing_ones(write):
    with ImportScope([write("a", trainer="import os\nclass Loop: ...\ndef run(): ...\n_hidden = 1")]):
        assert "note: `trainer` has `Loop`, `run`" in failure("trainer.Xyz").notes


def test_error_for_the_name_of_a_local_module_suggests_its_class(write):
    with ImportScope([write("a", trainer="1 / 0\nclass Trainer: ...")]):
        error = failure("trainer", section="trainer")
    assert error.suggestion == "trainer.Trainer"
    assert any("`trainer.py`" in note for note in error.notes)


def test_error_for_an_invalid_local_module_has_only_a_note(write):
    with ImportScope([write("a", trainer="class Trainer(:")]):
        error = failure("trainer", section="trainer")
    assert error.suggestion is None
    assert any("`trainer.py`" in note for note in error.notes)


def test_error_for_the_name_of_a_torch_class_suggests_its_dotted_path():
    assert failure("RAdam", section="optimizer").suggestion == "torch.optim.RAdam"


def test_error_mentions_an_ignored_local_file(write):
    with ImportScope([write("a", queue="class Track: ...", trainer="from queue import Track")]):
        for path in ("queue.Track", "trainer.Trainer"):
            assert any("`queue.py`" in note and "rename" in note for note in failure(path).notes)


@given(st.text(max_size=30))
def test_any_text_resolves_or_raises_a_path_error(text):
    path = text if text.partition(".")[0] not in sys.stdlib_module_names else f"az_{text}"
    index = PluginIndex([Entry("audiozen.model", "net", "fractions:Fraction", "acme", "1.0")])
    error = outcome(path, section="model", index=index)
    if error:
        assert str(error)
        assert error.code.startswith("AZ2")


@given(st.text(alphabet="torch.nMSELsoptimRAd:_/ ", min_size=1, max_size=20))
def test_every_suggestion_is_a_well_formed_path(path):
    error = outcome(path, section="optimizer")
    again = outcome(error.suggestion, section="optimizer") if error and error.suggestion else None
    assert again is None or again.code != codes.MALFORMED_PATH


# ------------------------------------------------------------------------------------------ broken components


def component(value, name="net"):
    return PluginIndex([Entry("audiozen.model", name, value, "acme", "1.4")])


def test_error_names_the_distribution_of_a_component_that_fails_to_import(write, site):
    write("site", az_broken="import math\nraise ValueError('boom')")
    error = failure("net", section="model", index=component("az_broken:Net"))
    assert error.message.startswith("the component `net` of acme 1.4 is broken:")
    assert "ValueError: boom" in error.message
    assert isinstance(error.__cause__, ValueError)
    assert any("az_broken.py:2" in note for note in error.notes)
    assert any("net = az_broken:Net" in note for note in error.notes)


@pytest.mark.parametrize("value", ["az_nothing:Net", "az_nothing.below:Net", "fractions:Net", "fractions:Fraction.Net"])
def test_component_missing_from_its_module_is_broken(value):
    assert "acme 1.4 is broken" in failure("net", section="model", index=component(value)).message


def test_component_that_is_a_module_is_an_error():
    assert failure("net", section="model", index=component("fractions")).code == codes.IS_MODULE


def test_remedy_for_a_missing_import_names_the_extra_of_the_component(write, site):
    write("site", az_extra="import az_not_installed")
    error = failure("net", section="model", index=component("az_extra:Net [fast]"))
    assert error.remedy == "pip install 'acme[fast]'"
    assert resolve("net", section="model", index=component("fractions:Fraction [fast]")).dotted == "fractions.Fraction"


def test_broken_component_does_not_affect_the_others(write, site):
    write("site", az_broken="raise SystemExit")
    index = PluginIndex([*component("az_broken:Net"), *component("fractions:Fraction", "good")])
    assert resolve("good", section="model", index=index).target.__name__ == "Fraction"
    assert "az_broken" not in sys.modules


def test_audiozen_error_during_an_import_is_not_changed(write, site):
    write(
        "site",
        az_extra="from audiozen_core.errors import MissingExtraError\n"
        "raise MissingExtraError('pesq', extra='metrics', needed_by='PESQ')",
    )
    with pytest.raises(MissingExtraError, match="pip install"):
        resolve("net", section="model", index=component("az_extra:Net"))


def test_load_resolves_an_entry_without_an_index():
    entry = Entry("audiozen.metric", "half", "fractions:Fraction.from_float", "acme", "1.0")
    found = load_entry(entry)
    assert (found.path, found.dotted, found.entry) == ("acme:half", "fractions.Fraction.from_float", entry)


def test_a_scope_keeps_what_the_installed_index_finds_and_nothing_of_another_index(tmp_path):
    other, third = component("fractions:Fraction", "sdnn"), component("decimal:Decimal", "sdnn")
    with ImportScope([tmp_path]) as scope:
        assert resolve("sdnn", section="model", index=other).target.__name__ == "Fraction"
        assert not scope.resolved
        installed = resolve("sdnn", section="model")
        assert resolve("sdnn", section="model", index=third).target.__name__ == "Decimal"
        assert resolve("sdnn", section="model", index=installed_index()) is installed
        assert resolve("fractions.Fraction", index=other) is resolve("fractions.Fraction")


def test_a_scope_keeps_the_class_of_a_module_that_is_reloaded(tmp_path):
    (tmp_path / "own_parts.py").write_text("class Part: ...")
    with ImportScope([tmp_path]):
        before = resolve("own_parts.Part").target
        module = importlib.reload(sys.modules["own_parts"])
        assert module.Part is not before
        assert resolve("own_parts.Part").target is before
