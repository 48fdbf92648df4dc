"""The examples in the documentation are run.

A comment before a block says what the test does with it. It saves a block marked `<!-- file: NAME -->` under that name,
and runs the commands of a block marked `<!-- run -->` in the same folder. All other blocks are only parsed.
"""

import ast
import re
import shlex
import sys
from pathlib import Path

import click
import pytest
import soundfile
import tomli

from audiozen_core.cli.check import command as check_command
from audiozen_core.cli.checkpoints import command as checkpoints_command
from audiozen_core.cli.explain import command as explain_command
from audiozen_core.cli.hooks import command as hooks_command
from audiozen_core.cli.main import main
from audiozen_core.cli.new import command as new_command
from audiozen_core.cli.plugins import command as plugins_command
from audiozen_core.cli.run import command as run_command
from audiozen_core.cli.schema import command as schema_command
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.config.schema import keys_of, table_of
from audiozen_core.kinds import SECTIONS
from tests.cli.conftest import write_pairs

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
PAGES += sorted((REPOSITORY / "recipes").glob("*/README.md"))
BLOCK = re.compile(r"(?:<!-- (?P<what>[^>]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
COMMANDS = {
    "run": run_command,
    "check": check_command,
    "checkpoints": checkpoints_command,
    "explain": explain_command,
    "schema": schema_command,
    "plugins": plugins_command,
    "hooks": hooks_command,
    "new": new_command,
}


def blocks(page):
    return [match.groupdict() for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def audiozen_lines(text):
    lines = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines()]
    return [line[1:] for line in lines if line and line[0] == "audiozen"]


def parse(command, name, arguments):
    """Parses the arguments as the command line does, including those of subcommands."""
    context = command.make_context(name, list(arguments))
    if isinstance(command, click.Group):
        inner_name, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(inner, inner_name, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_code_block_and_every_command_can_be_parsed(page):
    for block in blocks(page):
        if block["language"] == "toml":
            tomli.loads(block["text"])
        elif block["language"] == "python":
            ast.parse(block["text"])
        elif block["language"] == "shell":
            for name, *arguments in audiozen_lines(block["text"]):
                parse(COMMANDS[name], name, arguments)


def test_parsing_a_misspelt_option_fails():
    with pytest.raises(Exception, match="No such option"):
        run_command.make_context("run", ["exp.toml", "--resum"])


PORTS = [f"docs/coming_from_{name}.md" for name in ("audiozen", "speechbrain", "espnet", "lightning")]


@pytest.mark.parametrize("page", ["README.md", "docs/writing_a_trainer.md", *PORTS])
def test_files_and_commands_of_a_page_work_without_changes(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ("train", "valid", "test"):
        write_pairs(tmp_path / "data" / part, count=2)
        for kind in ("noisy", "clean"):  # real files differ in length
            wave, rate = soundfile.read(tmp_path / "data" / part / kind / "clip_1.wav")
            soundfile.write(tmp_path / "data" / part / kind / "clip_1.wav", wave[:-1000], rate)
    (tmp_path / "data" / "unknown").mkdir()
    (tmp_path / "data/test/noisy/clip_0.wav").rename(tmp_path / "data/unknown/clip_9.wav")
    (tmp_path / "data/test/clean/clip_0.wav").unlink()
    ran = 0
    for block in blocks(REPOSITORY / page):
        kind, _, name = (block["what"] or "").partition(": ")
        if kind == "file":
            # Fewer epochs make the test fast. Everything else is as the reader sees it.
            text = re.sub(r"max_epochs = \d+", "max_epochs = 1", block["text"])
            (tmp_path / name).write_text(text, encoding="utf-8")
        elif kind == "run":
            for arguments in audiozen_lines(block["text"]):
                monkeypatch.setattr(sys, "argv", ["audiozen", *arguments])
                with pytest.raises(SystemExit) as stop:
                    main()
                assert not stop.value.code, arguments
                ran += 1
    assert ran >= 2
    assert list(tmp_path.glob("*/*/checkpoints/best/model.safetensors"))


def test_ported_file_of_the_first_audiozen_has_as_many_warnings_as_the_page_says(tmp_path):
    page = REPOSITORY / "docs/coming_from_audiozen.md"
    for block in blocks(page):
        if (block["what"] or "").startswith("file: "):
            (tmp_path / block["what"].removeprefix("file: ")).write_text(block["text"], encoding="utf-8")
    checked = check_config(load_config(tmp_path / "ported.toml"))
    assert len(checked.warnings) == 7
    assert "prints seven warnings" in page.read_text(encoding="utf-8")


def test_hook_from_the_trainer_page_stops_the_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for part in ("train", "valid"):
        write_pairs(tmp_path / "data" / part, count=2)
    page = blocks(REPOSITORY / "docs/writing_a_trainer.md")
    for block in page:
        if (block["what"] or "").startswith("file: "):
            Path(block["what"].removeprefix("file: ")).write_text(block["text"], encoding="utf-8")
    additions = [block["text"] for block in page if block["language"] == "toml" and "[[hooks]]" in block["text"]]
    assert len(additions) == 2
    with Path("own.toml").open("a") as file:
        file.write("\n".join(additions))
    monkeypatch.setattr(sys, "argv", ["audiozen", "run", "own.toml"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert "the score of -1000.0 is reached" in capsys.readouterr().err
    assert not Path("exp/own/tb_log").exists()


def test_arguments_page_lists_every_key_of_every_section():
    text = (REPOSITORY / "docs/experiment_arguments.md").read_text(encoding="utf-8")
    for section, kind in SECTIONS.items():
        assert f"`{section}`" in text or f"[[{section}]]" in text, section
        for key in keys_of(table_of(kind)):
            assert f"`{key}`" in text, f"{section}.{key}"


@pytest.mark.parametrize("path", ["audiozen.trainer.base_trainer.BaseTrainer", "enhancement"])
def test_arguments_page_lists_every_argument_of_the_trainers(path):
    import inspect

    from audiozen_core.registry.paths import resolve

    text = (REPOSITORY / "docs/experiment_arguments.md").read_text(encoding="utf-8")
    parameters = inspect.signature(resolve(path, section="trainer").target).parameters
    for name, parameter in parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert f"| `{name}` |" in text, name


def test_internal_links_point_to_existing_files():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_test_that_reliability_names_exists():
    page = BLOCK.sub("", (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8"))
    files = {path: path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("*.py")}
    named = {name for code in re.findall(r"`([^`]+)`", page) for name in re.findall(r"[\w/]*\btest_\w+(?:\.py)?", code)}
    assert len(named) > 150
    missing = []
    for name in sorted(named):
        if name.endswith(".py"):
            there = any(f"/{path.relative_to(REPOSITORY).as_posix()}".endswith(f"/{name}") for path in files)
        else:
            there = any(f"def {name}(" in text for text in files.values())
        missing += [] if there else [name]
    assert missing == []
