"""`audiozen plugins` lists components, `show` describes one, and `doctor` finds broken ones."""

import inspect
import json
import subprocess
import sys

import pytest
import tomli

from audiozen_core.diagnostics import codes, config_codes
from audiozen_core.errors import RegistryError
from audiozen_core.registry.index import forget_installed, installed_index
from tests.installed import install, install_a_hundred, site  # noqa: F401 - fixtures

ACME = """
    \"\"\"Parts of an experiment.\"\"\"
    from pathlib import Path
    from typing import Literal
    from torch import nn

    from audiozen_core.hooks.marker import hookimpl

    class Net(nn.Module):
        \"\"\"A network.

        Args:
            bands: how many.
        \"\"\"
        def __init__(self, bands: int, mode: Literal["fast", "slow"] = "fast", weights: Path | None = None):
            super().__init__()

    class Announce:
        phase = "persist"

        @hookimpl
        def on_run_end(self, mode): ...

        @hookimpl
        def on_epoch_start(self, epoch): ...
"""


@pytest.fixture
def acme(install):  # noqa: F811
    install("acme", {"acme": ACME}, model={"net": "acme:Net"}, hooks={"announce": "acme:Announce"})


# ------------------------------------------------------------------------------------------ list


def test_list_shows_origin_and_status_without_importing_plugins(acme, install, audiozen):  # noqa: F811
    install("new", {}, requires="audiozen>=7", metric={"loudness": "nowhere:Loudness"})
    install("left", {}, loss_function={"twice": "nowhere:A"})
    install("right", {}, loss_function={"twice": "nowhere:B"})
    outcome = audiozen("plugins")
    assert outcome.code == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in outcome.out.splitlines() if line.startswith("  ")}
    assert rows["net"] == "acme 1.0 third party ok acme:Net"
    assert rows["sdnn"].split(" ", 2)[2] == "first party ok audiozen_plugins.model.sdnn:SDNN"
    assert rows["loudness"] == "new 1.0 third party for audiozen>=7 nowhere:Loudness"
    assert rows["twice"] == "right 1.0 third party clash nowhere:B"
    assert "plugins doctor" in outcome.out
    assert "acme" not in sys.modules


def test_list_prints_one_kind_as_json(acme, audiozen):
    rows = json.loads(audiozen("plugins", "model", "--json").out)
    assert {row["group"] for row in rows} == {"audiozen.model"}
    names = [row["name"] for row in rows]
    assert {"net", "sdnn"} < set(names)
    assert names == sorted(names)
    row = rows[names.index("net")]
    assert (row["distribution"], row["status"]) == ("acme", "ok")
    assert audiozen("plugins", "modell").code == 2


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["plugins", "--help"], ["run", "--help"]])
def test_help_and_list_import_none_of_a_hundred_plugins(install, site, arguments):  # noqa: F811
    install_a_hundred(install)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv = ['audiozen', *{arguments!r}]\n"
        "from audiozen_core.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'torch', 'numpy', 'packaging', 'importlib.metadata', 'audiozen_plugins'} & sys.modules.keys()\n"
        "if 'rich' in sys.modules and sys.argv[1:] != ['plugins']: heavy.add('rich')  # only the list needs it\n"
        "plugins = [name for name in sys.modules if name.startswith(('acme', 'plugin_'))]\n"
        "assert not heavy and not plugins, (heavy, plugins)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if arguments == ["plugins"]:
        assert "loss_94" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "requires", "imported"),
    [
        (["--help"], "audiozen~=7.1", False),
        (["plugins"], "audiozen~=7.1", True),
        (["plugins"], "audiozen>=0.1,<0.2", False),
    ],
)
def test_only_the_list_parses_the_requirements_of_plugins(install, site, arguments, requires, imported):  # noqa: F811
    install("new", {}, requires=requires, metric={"loudness": "nowhere:Loudness"})
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv = ['audiozen', *{arguments!r}]\n"
        "from audiozen_core.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print('packaging' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(imported)


# ------------------------------------------------------------------------------------------ show


def test_show_prints_arguments_and_toml_of_a_component(acme, audiozen):
    outcome = audiozen("plugins", "show", "net")
    assert outcome.code == 0, outcome.err
    assert "acme 1.0, third party" in outcome.out
    assert 'Net(bands: int, mode: "fast" | "slow" = \'fast\', weights: Path = None)' in outcome.out
    assert "bands: how many." in outcome.out
    toml = outcome.out[outcome.out.index("[model]") :]
    assert tomli.loads(toml) == {"model": {"path": "net", "args": {"bands": 0, "mode": "fast"}}}
    assert "bands = 0  # required" in toml
    assert "# weights: Path, None by default" in toml


def test_show_prints_hooks_and_phase_of_a_hook_plugin(acme, audiozen):
    info = json.loads(audiozen("plugins", "show", "announce", "--json").out)
    assert info["hooks"] == ["on_run_end", "on_epoch_start"]
    assert info["phase"] == "persist"
    assert info["snippet"] == '[[hooks]]\npath = "announce"'


def test_show_determines_the_kind_of_a_dotted_path_by_its_base_class(audiozen):
    info = json.loads(audiozen("plugins", "show", "torch.optim.SGD", "--json").out)
    assert info["kind"] == "optimizer"
    assert next(argument for argument in info["arguments"] if argument["name"] == "params")["injected"]
    assert "params" not in tomli.loads(info["snippet"])["optimizer"]["args"]


def test_show_suggests_a_similar_name(acme, audiozen):
    outcome = audiozen("plugins", "show", "anounce")
    assert outcome.code == 2
    assert "did you mean `announce`?" in outcome.err


@pytest.mark.parametrize("entry", installed_index().entries(), ids=lambda entry: entry.name)
def test_the_toml_shown_for_our_own_components_can_be_pasted(entry):
    from audiozen_core.binding.arguments import check_arguments
    from audiozen_core.binding.signature import signature_of
    from audiozen_core.inspection.snippet import snippet
    from audiozen_core.kinds import KINDS
    from audiozen_core.registry.paths import load_entry

    component = load_entry(entry).target
    assert inspect.getdoc(component)
    parts = tomli.loads(snippet(entry.kind, entry.spelling, component))
    table = parts.get(entry.kind, {})
    table = table[0] if isinstance(table, list) else table
    injected = KINDS[entry.kind].injected
    assert check_arguments(signature_of(component), table.get("args", {}), injected=injected) == []


# ------------------------------------------------------------------------------------------ doctor


@pytest.fixture
def broken_plugins(install):  # noqa: F811
    hooks = (
        "from audiozen_core.hooks.marker import hookimpl\nclass Bar:\n    @hookimpl\n    def on_epoch_begin(self): ..."
    )
    install("acme-raises", {"acme_raises": "1 / 0"}, model={"raises": "acme_raises:Model"})
    install("acme-exits", {"acme_exits": "import sys\nsys.exit(3)"}, metric={"exits": "acme_exits:Metric"})
    install("acme-dies", {"acme_dies": "import os\nos._exit(9)"}, metric={"dies": "acme_dies:Metric"})
    install("acme-typo", {"acme_typo": hooks}, hooks={"typo": "acme_typo:Bar"})
    install(
        "acme-old", {"acme_old": "class Loss: ..."}, requires="audiozen<0.1", loss_function={"old": "acme_old:Loss"}
    )
    install("acme-group", {}, loss_functions={"lost": "acme_old:Loss"})
    install("acme-no-model", {"acme_no_model": "class Net: ..."}, model={"net": "acme_no_model:Net"})
    install("acme-prints", {"acme_prints": "print('hello')\nclass M: ..."}, metric={"prints": "acme_prints:M"})
    install(
        "acme-run", {"acme_run": "import click\ncommand = click.Command('x')"}, commands={"run": "acme_run:command"}
    )


def test_doctor_reports_every_fault_and_its_remedy(broken_plugins, audiozen):
    outcome = audiozen("plugins", "doctor", "--json")
    assert outcome.code == 1, outcome.err
    found = {}
    for row in json.loads(outcome.out):
        component = next(note for note in row["notes"] if note.startswith("component: "))
        found[component.split()[1].partition(":")[0]] = row
    assert {name: row["code"] for name, row in found.items()} == {
        "acme-raises": "AZ207",
        "acme-exits": "AZ207",
        "acme-dies": codes.IMPORT_ENDS_PROCESS,
        "acme-typo": codes.HOOK,
        "acme-old": codes.OTHER_VERSION,
        "acme-group": codes.UNKNOWN_GROUP,
        "acme-no-model": config_codes.WRONG_KIND,
        "acme-prints": config_codes.IMPORT_PRINTS,
        "acme-run": codes.CLASH,
    }
    notes = {name: "\n".join(row["notes"]) for name, row in found.items()}
    assert found["acme-raises"]["notes"][0] == "component: acme-raises:raises (acme-raises 1.0, audiozen.model)"
    assert "ZeroDivisionError" in found["acme-raises"]["message"]
    assert "acme_raises.py:1 in <module>: 1 / 0" in notes["acme-raises"]
    assert "importlib" not in notes["acme-raises"]
    assert "help: pip install --upgrade acme-raises" in notes["acme-raises"]
    assert "exit code 9" in found["acme-dies"]["message"]
    assert "`on_epoch_begin` is not a hook" in found["acme-typo"]["message"]
    assert "pip install 'audiozen<0.1'" in notes["acme-old"]
    assert "audiozen.loss_function" in notes["acme-group"]
    assert "audiozen acme-run:run" in notes["acme-run"]
    assert [name for name, row in found.items() if row["severity"] == "warning"] == ["acme-prints"]


@pytest.mark.slow
def test_doctor_reports_unreadable_metadata(site, audiozen):  # noqa: F811
    """This metadata also breaks the import of torch."""
    folder = site / "bad-1.0.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_text("[audiozen.model]\nnonsense\n")
    (folder / "METADATA").write_text("Name: bad\n")
    forget_installed()
    outcome = audiozen("plugins", "doctor")
    assert outcome.code == 1
    assert "bad-1.0.dist-info can't be read" in outcome.out
    assert "pip install --force-reinstall" in outcome.out
    assert "plugins doctor" in audiozen("plugins").out


def test_doctor_checks_a_single_distribution(broken_plugins, audiozen):
    outcome = audiozen("plugins", "doctor", "acme-prints")
    assert outcome.code == 0
    assert (
        "warning[AZ148]: the metric `prints` of acme-prints 1.0: its import writes to the standard output"
        in outcome.out
    )
    assert audiozen("plugins", "doctor", "acme-nobody").code == 2


def test_doctor_reports_no_faults_in_audiozen_itself(audiozen):
    outcome = audiozen("plugins", "doctor", "audiozen")
    assert outcome.code == 0, outcome.out
    assert "no problems" in outcome.out


# ------------------------------------------------------------------------------------------ a hundred plugins


@pytest.mark.slow
def test_doctor_finds_five_broken_plugins_among_a_hundred(install, audiozen):  # noqa: F811
    install_a_hundred(install)
    outcome = audiozen("plugins", "doctor", "--timeout", "3")
    assert outcome.code == 1
    errors = [line for line in outcome.out.splitlines() if line.startswith("error[")]
    assert len(errors) == 4, outcome.out
    for name in ("acme-raises", "acme-exits", "acme-hangs", "acme-left", "acme-right"):
        assert sum(name in line for line in errors) == 1, name
    assert "`acme-left:sdr` or `acme-right:sdr`" in outcome.out


def test_run_does_not_import_a_hundred_unused_plugins(install, tmp_path, repository, audiozen):  # noqa: F811
    install_a_hundred(install)
    outcome = audiozen(
        "run", str(repository / "recipes/mini_denoise/sdnn/baseline.toml"),
        "--set", f"meta.save_dir={tmp_path}/exp",
        "--set", "trainer.args.max_epochs=1",
        "--set", "dataset.args.items_per_epoch=16",
        "--set", "+validate_dataset.args.items_per_epoch=2",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "exp/baseline/checkpoints/best").exists()
    assert not any(name.startswith(("acme", "plugin_")) for name in sys.modules)


def test_plugin_does_not_replace_a_default_hook_of_the_same_name(install, project, audiozen):  # noqa: F811
    install("acme", {"acme": "1 / 0"}, hooks={"progress": "acme:Progress", "checkpoint": "acme:Checkpoint"})
    assert audiozen("run", "tiny.toml", "--set", "trainer.args.max_epochs=1").code == 0


def test_error_names_distribution_and_line_of_a_broken_plugin(install, project, audiozen):  # noqa: F811
    install_a_hundred(install)
    outcome = audiozen("check", "tiny.toml", "--set", "model.path=raises")
    assert outcome.code == 2
    assert "the component `raises` of acme-raises 1.0 is broken" in outcome.err
    assert "acme_raises.py:1 in <module>: import no_such_thing" in outcome.err


# ------------------------------------------------------------------------------------------ commands

COMMAND = """
    import click

    @click.command()
    @click.argument("word")
    def echo(word):
        '''Say it.'''
        click.echo(word.upper())
"""


def test_plugin_can_add_a_command(install, audiozen):  # noqa: F811
    install("acme-tools", {"acme_tools": COMMAND}, commands={"shout": "acme_tools:echo"})
    assert "shout  from acme-tools 1.0" in audiozen("--help").out
    assert "acme_tools" not in sys.modules
    assert audiozen("shout", "hello").out == "HELLO\n"


def test_broken_command_fails_only_when_it_is_called(install, audiozen):  # noqa: F811
    install("acme-bad", {"acme_bad": "raise OSError('no')"}, commands={"bad": "acme_bad:command"})
    install("acme-not", {"acme_not": "command = 3"}, commands={"not": "acme_not:command"})
    assert audiozen("--help").code == 0
    outcome = audiozen("bad")
    assert outcome.code == 2
    assert "the component `bad` of acme-bad 1.0 is broken" in outcome.err
    assert "`not` of acme-not 1.0 is broken: `acme_not:command` is not a click command" in audiozen("not").err


def test_distribution_prefix_selects_between_commands_of_the_same_name(install, audiozen):  # noqa: F811
    for owner in ("left", "right"):
        install(owner, {owner: COMMAND}, commands={"shout": f"{owner}:echo"})
    outcome = audiozen("shout", "a")
    assert outcome.code == 2
    assert "`left:shout` or `right:shout`" in outcome.err
    assert audiozen("right:shout", "a").out == "A\n"
    assert "right:shout" in audiozen("--help").out


def test_plugin_cannot_replace_a_built_in_command(install, project, audiozen):  # noqa: F811
    install("acme-tools", {"acme_tools": COMMAND}, commands={"check": "acme_tools:echo"})
    assert "no mistakes found" in audiozen("check", "tiny.toml").out
    assert audiozen("acme-tools:check", "a").out == "A\n"


FAILS = """
    import click

    def positive(ctx, param, value):
        return 1 // value

    @click.group()
    def tools(): ...

    @tools.command()
    @click.option("--count", type=int, default=1, callback=positive)
    @click.option("--file")
    def work(count, file):
        if file:
            open(file)
        raise KeyError("noisy")

    @tools.command()
    def stop():
        raise click.UsageError("not today")
"""


@pytest.mark.parametrize(
    ("arguments", "raised", "line"),
    [
        (["work"], "KeyError: 'noisy'", 16),
        (["work", "--count", "0"], "ZeroDivisionError: ", 5),
        (["work", "--file", "/nowhere"], "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere'", 15),
    ],
)
def test_exception_in_a_command_names_the_plugin_and_the_line(install, audiozen, arguments, raised, line):  # noqa: F811
    install("acme-tools", {"acme_tools": FAILS}, commands={"tools": "acme_tools:tools"})
    outcome = audiozen("tools", *arguments)
    assert outcome.code == 2
    assert f"error[AZ200]: the command `tools` of acme-tools 1.0 failed: {raised}" in outcome.err
    assert f"acme_tools.py:{line}, in " in outcome.err
    assert "report it to the authors of acme-tools; `--traceback` shows the full traceback" in outcome.err
    with pytest.raises(RegistryError) as error:
        audiozen("tools", *arguments, "--traceback")
    assert type(error.value.__cause__).__name__ in raised


def test_errors_that_a_command_raises_on_purpose_are_shown_unchanged(install, audiozen):  # noqa: F811
    install("acme-tools", {"acme_tools": FAILS}, commands={"tools": "acme_tools:tools"})
    assert "error[AZ000]: not today" in audiozen("tools", "stop").err
    assert audiozen("tools", "--help").code == 0


def test_exception_in_a_command_of_audiozen_is_not_blamed_on_a_plugin(audiozen, monkeypatch):
    def breaks():
        raise KeyError("ours")

    monkeypatch.setattr("audiozen_core.registry.index.installed_index", breaks)
    with pytest.raises(KeyError, match="ours"):
        audiozen("plugins")
