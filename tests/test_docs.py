"""The examples in the documentation are run.

A comment before a block says what the test does with it. It saves a block marked `<!-- file: NAME -->` under that name,
and runs the commands of a block marked `<!-- run -->` in the same folder. All other blocks are only parsed.
"""

import ast
import inspect
import re
import shlex
import socket
import sys
from functools import cache
from pathlib import Path
from types import MappingProxyType

import click
import numpy as np
import pytest
import soundfile
import tomli
import torch

from audiozen_core.cli.check import command as check_command
from audiozen_core.cli.checkpoints import command as checkpoints_command
from audiozen_core.cli.compare import command as compare_command
from audiozen_core.cli.convert import command as convert_command
from audiozen_core.cli.enhance import command as enhance_command
from audiozen_core.cli.evaluate import command as evaluate_command
from audiozen_core.cli.explain import command as explain_command
from audiozen_core.cli.export import command as export_command
from audiozen_core.cli.hooks import command as hooks_command
from audiozen_core.cli.listen import command as listen_command
from audiozen_core.cli.main import main
from audiozen_core.cli.new import command as new_command
from audiozen_core.cli.plugins import command as plugins_command
from audiozen_core.cli.profile import command as profile_command
from audiozen_core.cli.replay import command as replay_command
from audiozen_core.cli.report import command as report_command
from audiozen_core.cli.run import command as run_command
from audiozen_core.cli.runs import command as runs_command
from audiozen_core.cli.schema import command as schema_command
from audiozen_core.cli.tune import command as tune_command
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.config.schema import keys_of, table_of
from audiozen_core.config.sections import Dataloader
from audiozen_core.errors import MissingExtraError
from audiozen_core.experiment.config_diff import compare_configs
from audiozen_core.kinds import SECTIONS
from audiozen_core.registry.entry import FIRST_PARTY
from audiozen_core.registry.index import installed_index
from audiozen_core.registry.paths import resolve
from audiozen_core.scoring.chosen import build_metric
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_plugins.model.sdnn import SDNN
from tests.cli.conftest import write_pairs

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
PAGES += sorted((REPOSITORY / "recipes").glob("*/README.md"))
BLOCK = re.compile(r"(?:<!-- (?P<what>[^>]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
COMMANDS = {
    "run": run_command,
    "enhance": enhance_command,
    "export": export_command,
    "evaluate": evaluate_command,
    "compare": compare_command,
    "listen": listen_command,
    "report": report_command,
    "replay": replay_command,
    "runs": runs_command,
    "tune": tune_command,
    "profile": profile_command,
    "convert": convert_command,
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


STARTED = REPOSITORY / "docs/getting_started.md"


def marked(page, what):
    """Returns the text of the block with that comment."""
    (text,) = [block["text"] for block in blocks(page) if block["what"] == what]
    return text


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


WAYS = ["docs/train_with_a_discriminator.md", "docs/generative_enhancement.md"]


@pytest.mark.parametrize(
    "page", ["README.md", "docs/writing_a_trainer.md", "docs/domains.md", "docs/fine_tuning.md", *WAYS, *PORTS]
)
def test_files_and_commands_of_a_page_work_without_changes(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ("train", "valid", "test"):
        write_pairs(tmp_path / "data" / part, count=2)
        for kind in ("noisy", "clean"):  # real files differ in length
            wave, rate = soundfile.read(tmp_path / "data" / part / kind / "clip_1.wav")
            soundfile.write(tmp_path / "data" / part / kind / "clip_1.wav", wave[:-1000], rate)
    torch.save({"model": SDNN(hidden_size=32, max_delay=4).state_dict(), "epoch": 3}, tmp_path / "weights.tar")
    (tmp_path / "data" / "unknown").mkdir()
    (tmp_path / "data/test/noisy/clip_0.wav").rename(tmp_path / "data/unknown/clip_9.wav")
    (tmp_path / "data/test/clean/clip_0.wav").unlink()
    assert run_page(page, tmp_path, monkeypatch) >= 2
    assert list(tmp_path.glob("*/*/checkpoints/best/model*.safetensors"))


def test_commands_of_the_page_on_scores_work_without_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_pairs(tmp_path / "data" / "test", count=2)
    assert run_page("docs/evaluate.md", tmp_path, monkeypatch) == 3
    assert (tmp_path / "noisy_scores" / "scores.csv").is_file()


def test_commands_of_the_page_on_comparisons_print_what_it_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_page("docs/compare.md", tmp_path, monkeypatch) == 3
    printed = capsys.readouterr().out
    (shown,) = [block["text"] for block in blocks(REPOSITORY / "docs/compare.md") if block["language"] == "text"]
    assert printed.startswith(shown.rstrip("\n"))
    assert (tmp_path / "results" / "comparison.md").is_file()


def test_command_of_the_page_on_reports_writes_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_page("docs/report.md", tmp_path, monkeypatch) == 1
    assert "new is certainly better than old in pesq" in capsys.readouterr().out
    assert "<!DOCTYPE html>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def run_page(page, tmp_path, monkeypatch, changes=MappingProxyType({})):
    """Saves the files of a page, and runs its commands. Returns how many there were."""
    ran = 0
    for block in blocks(REPOSITORY / page):
        kind, _, name = (block["what"] or "").partition(": ")
        if kind == "file":
            # Fewer epochs make the test fast. Everything else is as the reader sees it.
            text = re.sub(r"max_epochs = \d+", "max_epochs = 1", block["text"])
            for old, new in changes.items():
                text = text.replace(old, new)
            (tmp_path / name).write_text(text, encoding="utf-8")
        elif kind == "run":
            for arguments in audiozen_lines(block["text"]):
                monkeypatch.setattr(sys, "argv", ["audiozen", *arguments])
                with pytest.raises(SystemExit) as stop:
                    main()
                assert not stop.value.code, arguments
                ran += 1
    return ran


def test_page_on_separation_trains_tests_and_separates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in ("train/ann", "train/ben", "valid/eve", "valid/fay", "test/gus", "test/hal"):
        folder = tmp_path / "speech" / name
        folder.mkdir(parents=True)
        soundfile.write(folder / "a.wav", 0.1 * generator.standard_normal(4000), 16000)
    (tmp_path / "recordings").mkdir()
    soundfile.write(tmp_path / "recordings/meeting.wav", 0.1 * generator.standard_normal(4000), 16000)
    # A short clip and a small network make the test fast. Everything else is as the reader sees it.
    small = {
        "clip_seconds = 4.0": "clip_seconds = 0.2",
        "kernel_size = 16": "hidden = 4, num_blocks = 1, kernel_size = 16",
    }
    text = marked(REPOSITORY / "docs/separation.md", "file: separate.toml")
    assert all(old in text for old in small)
    assert run_page("docs/separation.md", tmp_path, monkeypatch, small) == 4
    for name in ("test/best_epoch_0001/0/scores.csv", "predict/best_epoch_0001/0/meeting_2.wav"):
        assert (tmp_path / "exp/separate" / name).exists()
    assert (tmp_path / "exp/masks/checkpoints/best/model.safetensors").exists()


def test_page_on_profiles_profiles_and_keeps_nothing_of_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_pairs(tmp_path / "data/train", count=8)
    small = {"clip_seconds = 4.0": "clip_seconds = 0.05", 'path = "sdnn"': 'path = "sdnn"\nargs.hidden_size = 16'}
    before = torch.get_num_threads()
    try:
        assert run_page("docs/profile.md", tmp_path, monkeypatch, small) == 1
    finally:
        torch.set_num_threads(before)
    printed = capsys.readouterr().out
    shown = next(block["text"] for block in blocks(REPOSITORY / "docs/profile.md") if block["language"] == "text")
    parts = [line[:20].strip() for line in shown.split("\n\n")[0].splitlines()]
    assert all(f"\n{part} " in f"\n{printed}" for part in parts if part not in ("hook tensorboard", "data"))
    assert not Path("exp").exists() or not list(Path("exp").iterdir())
    assert {path.name for path in Path("profile").iterdir()} == {"profile.json", "trace.json"}


def test_page_on_tuning_tests_learning_rates_and_keeps_nothing_of_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "data/train", count=8)
    # A short clip and a small network make the test fast. Everything else is as the reader sees it.
    small = {"clip_seconds = 4.0": "clip_seconds = 0.05", 'path = "sdnn"': 'path = "sdnn"\nargs.hidden_size = 16'}
    text = marked(REPOSITORY / "docs/tuning.md", "file: mine.toml")
    assert all(old in text for old in small)
    assert run_page("docs/tuning.md", tmp_path, monkeypatch, small) == 1
    assert "[optimizer.args]\nlr = " in capsys.readouterr().out
    assert {path.suffix for path in Path("exp").iterdir()} <= {".csv", ".svg"}
    assert len(Path("exp/mine_tune_lr.csv").read_text().splitlines()) > 10


def test_recordings_of_getting_started_are_enhanced(tmp_path, monkeypatch):
    tiny = TinyExperiment(tmp_path)
    del tiny.values["predict_dataset"]
    addition = marked(STARTED, "addition to baseline.toml")
    tiny.run("train")
    file = tmp_path / "baseline.toml"
    file.write_text(f"{tiny.file.read_text()}\n{addition}")
    (tmp_path / "noisy").rename(tmp_path / "recordings")
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "exp/tiny/checkpoints/best"
    monkeypatch.setattr(sys, "argv", ["audiozen", "run", str(file), "-M", "predict", "--ckpt-path", str(checkpoint)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert len(list(Path("exp/baseline/predict").glob("*/0/clip_*.wav"))) == 4


def test_notebook_of_getting_started_trains_loads_and_enhances(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = TinyExperiment(tmp_path)
    tiny.write().rename("baseline.toml")
    names = {}
    exec(marked(STARTED, "file: notebook.py"), names)
    assert names["enhanced"].shape == names["wave"][None].shape
    assert not names["loaded"].model.training
    assert str(names["result"].best) in capsys.readouterr().out


def test_scripts_for_long_audio_print_the_score_of_each_repetition(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = TinyExperiment(tmp_path)
    tiny.values["meta"]["id"] = "mine"
    tiny.run("train")
    tiny.file.rename("mine.toml")
    for kind in ("noisy", "clean"):
        Path("data/test", kind).mkdir(parents=True)
        Path(kind, "clip_0.wav").rename(Path("data/test", kind, "a.wav"))
    page = REPOSITORY / "docs/long_audio.md"
    exec(marked(page, "file: repeat.py").replace("128", "5"), {})
    (arguments,) = audiozen_lines(marked(page, "run"))
    monkeypatch.setattr(sys, "argv", ["audiozen", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    capsys.readouterr()
    exec(marked(page, "file: drift.py"), {})
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [int(repetition) for repetition, _ in printed] == [1, 2, 3, 4, 5]
    assert all(abs(float(score) - float(printed[0][1])) < 1.0 for _, score in printed)


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


def files_in_listing(text):
    """Yields the paths of the files and links in a listing, which shows folders by indentation."""
    folders = []
    for line in text.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders[depth:] = [name]
        if not name.endswith("/"):
            yield "".join(folders)


def without_numbers(path):
    return re.sub(r"\d+", "0", path)


def test_listing_of_a_run_folder_has_exactly_the_files_of_a_run(tmp_path):
    tiny = TinyExperiment(tmp_path)
    tiny.values["meta"]["id"] = "baseline"
    tiny.values["hooks"].clear()  # as in the recipe: TensorBoard is on
    folder = tiny.run("train", "test").folder
    found = [
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()
    ]
    found = [re.sub(r"clip_\d+", "ID", path).replace(socket.gethostname(), "HOST") for path in found]
    listed = list(files_in_listing(marked(STARTED, "files of a run")))
    assert len(listed) > 15
    assert {without_numbers(path) for path in found} == {without_numbers(path) for path in listed}


def test_listing_is_read_with_its_folders_and_links():
    text = "a.log   words\nb/\n  c/   words\n    d.txt\n  best -> c\ne/0/  x\n  f.csv\n"
    assert list(files_in_listing(text)) == ["a.log", "b/c/d.txt", "b/best", "e/0/f.csv"]


def test_error_in_getting_started_is_what_check_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("corpus", "crn"):
        Path(name).symlink_to(REPOSITORY / "recipes/mini_denoise" / name)
    text = marked(STARTED, "file: smaller.toml").replace('"baseline.toml"', '"crn/baseline.toml"')
    for name, code in (("hidden_size", 0), ("hiden_size", 2)):
        Path("smaller.toml").write_text(text.replace("hidden_size", name))
        monkeypatch.setattr(sys, "argv", ["audiozen", "check", "smaller.toml"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert (stop.value.code or 0) == code
    assert marked(STARTED, "what check prints for a misspelt key").strip() in "".join(capsys.readouterr())


def test_arguments_page_lists_every_key_of_every_section():
    text = (REPOSITORY / "docs/experiment_arguments.md").read_text(encoding="utf-8")
    for section, kind in SECTIONS.items():
        assert f"`{section}`" in text or f"[[{section}]]" in text, section
        for key in keys_of(table_of(kind)):
            assert f"`{key}`" in text, f"{section}.{key}"


@pytest.mark.parametrize("path", ["audiozen.trainer.base_trainer.BaseTrainer", "enhancement"])
def test_arguments_page_lists_every_argument_of_the_trainers(path):
    text = (REPOSITORY / "docs/experiment_arguments.md").read_text(encoding="utf-8")
    parameters = inspect.signature(resolve(path, section="trainer").target).parameters
    for name, parameter in parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert f"| `{name}` |" in text, name


VARIANTS = [
    *(("si_sdr", {"zero_mean": zero_mean}) for zero_mean in (True, False)),
    *(("si_sdr_improvement", {"zero_mean": zero_mean}) for zero_mean in (True, False)),
    *((name, args) for name in ("sdr", "sdr_improvement") for args in ({}, {"filter_length": 1})),
    *((name, {}) for name in ("snr", "segmental_snr", "frequency_weighted_snr", "estoi", "synaptic_operations")),
    *(("pesq_nb", {"resample": resample}) for resample in (False, True)),
    ("word_error_rate_clean", {}),
    *(("stoi", {}), ("stoi", {"extended": True}), ("lsd", {}), ("lsd", {"n_fft": 512, "hop_length": 128})),
    *(("pesq", {"mode": mode, "resample": resample}) for mode in ("wb", "nb") for resample in (False, True)),
    *(("dnsmos", {"aspect": aspect}) for aspect in ("overall", "signal", "background")),
    *((name, {}) for name in ("csig", "cbak", "covl", "dnsmos_p808", "plcmos", "speaker_similarity")),
    *(("aecmos", {"aspect": aspect}) for aspect in ("echo", "degradation")),
    *(("word_error_rate", {"against": against}) for against in ("text", "clean")),
]


@pytest.mark.parametrize(("path", "args"), VARIANTS, ids=str)
def test_metrics_page_lists_every_metric_with_its_names_and_rates(path, args):
    """Metrics resample themselves or name the rates that they take."""
    try:
        metric = build_metric({"path": path, "args": args})
    except MissingExtraError as error:
        pytest.skip(str(error))
    text = (REPOSITORY / "docs/metrics.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    label = f"`{path}` with `resample = true`" if args.get("resample") else f"`{path}`"
    (row,) = [row for row in rows if row[0] == label and len(row) == 5]
    assert f"`{metric.name}`" in row[4].split(", ")
    rates = getattr(metric, "sample_rates", None)
    assert all(str(rate) in row[2] for rate in rates) if rates else row[2].startswith("any")


def test_every_metric_of_audiozen_is_among_the_variants():
    ours = {entry.name for entry in installed_index() if entry.kind == "metric" and entry.distribution == FIRST_PARTY}
    assert ours == {path for path, _ in VARIANTS}


PRIVATE_PATH = re.compile(r"""["']audiozen_(?:core|plugins)(?:\.\w+)+["']""")


def test_toml_names_components_by_their_public_names():
    files = [
        file for folder in ("recipes", "examples", "audiozen_core") for file in (REPOSITORY / folder).rglob("*.toml")
    ]
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    for page in PAGES:
        texts[page] = "\n".join(block["text"] for block in blocks(page) if block["language"] == "toml")
    assert len([file for file in files if "path" in texts[file]]) > 10
    assert {file.name: found for file, text in texts.items() if (found := PRIVATE_PATH.findall(text))} == {}


def test_private_path_is_found_and_an_entry_point_is_not():
    assert PRIVATE_PATH.findall('path = "audiozen_plugins.loss.si_snr.SiSnrLoss"')
    assert not PRIVATE_PATH.findall(
        'si_snr = "audiozen_plugins.loss.si_snr:SiSnrLoss"\npath = "audiozen.loss.SiSnrLoss"'
    )


def test_internal_links_point_to_existing_files():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@cache
def anchors(page):
    """Returns the anchors that GitHub gives the headings of a page: letters, digits, `_` and `-`, in lower case."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_internal_links_with_an_anchor_point_to_a_heading():
    assert "version" not in anchors(REPOSITORY / "docs/public_api.md")
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
            assert anchor in anchors(page.parent / target if target else page), f"{page.name}: {target}#{anchor}"


def test_every_test_that_reliability_names_exists():
    page = BLOCK.sub("", (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8"))
    files = {path: path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("*.py")}
    named = {name for code in re.findall(r"`([^`]+)`", page) for name in re.findall(r"[\w/]*\btest_\w+(?:\.py)?", code)}
    named -= SECTIONS.keys()  # `test_dataset`
    assert len(named) > 150
    missing = []
    for name in sorted(named):
        if name.endswith(".py"):
            there = any(f"/{path.relative_to(REPOSITORY).as_posix()}".endswith(f"/{name}") for path in files)
        else:
            there = any(f"def {name}(" in text for text in files.values())
        missing += [] if there else [name]
    for file, name in re.findall(r"`([\w/]+\.py)::(test_\w+)`", page):
        there = any(path.as_posix().endswith(f"/{file}") and f"def {name}(" in text for path, text in files.items())
        missing += [] if there else [f"{file}::{name}"]
    assert missing == []


DATA_SETS = [section for section, kind in SECTIONS.items() if kind.modes]
PLACES_OF_SETTINGS = {
    "in `[meta]`": ["meta"],
    "in `[distributed]`": ["distributed"],
    "in `[model]`": ["model"],
    "in a data set": DATA_SETS,
    "in `dataloader`": [f"{section}.dataloader" for section in DATA_SETS],
}


def is_free_to_change(key):
    (change,) = compare_configs("", f"{key} = 1", lambda section, path: None)
    return not change.affects_training


def free_settings_of_reliability():
    """Returns the names in the list of settings that may change before a resume, by the words before the colon."""
    text = (REPOSITORY / "docs/reliability.md").read_text(encoding="utf-8")
    text = text.partition("\n## A changed TOML file\n")[2].partition("\n## ")[0].partition("\n\n`--allow-drift`")[0]
    items = [" ".join(item.split()).partition(". ")[0].partition(": ") for item in text.split("\n- ")[1:]]
    return {place: re.findall(r"`([^`]+)`", names) for place, _, names in items}


def test_reliability_lists_every_setting_that_may_change_before_a_resume():
    """Hooks have a list of their own."""
    listed = free_settings_of_reliability()
    sections = {section: keys_of(table_of(kind)) for section, kind in SECTIONS.items() if section != "hooks"}
    keys = {f"{section}.{key}" for section, names in sections.items() for key in names}
    keys |= {f"{section}.dataloader.{key}" for section in DATA_SETS for key in keys_of(Dataloader)}
    free = {key for key in keys if is_free_to_change(key)}
    whole = sections.keys() - {key.partition(".")[0] for key in keys - free}
    assert set(listed["whole sections"]) == whole
    named = {f"{at}.{name}" for place, ats in PLACES_OF_SETTINGS.items() for at in ats for name in listed[place]}
    in_whole = {key for key in keys if key.partition(".")[0] in whole}
    assert named - in_whole == free - in_whole
    assert {"meta.seed", "optimizer.args", "dataset.path"} <= keys - free


def test_reliability_lists_every_hook_that_may_change_before_a_resume():
    listed = free_settings_of_reliability()["hooks whose class says `affects_training = False`"]
    ours = [entry.name for entry in installed_index() if entry.kind == "hooks" and entry.distribution == FIRST_PARTY]
    hooks = {name: resolve(name, section="hooks").target for name in ours}
    assert listed == sorted(name for name, hook in hooks.items() if getattr(hook, "affects_training", True) is False)
    assert "ema" in hooks.keys() - listed


def test_use_of_a_model_works_as_written(tmp_path, monkeypatch, capsys):
    """A run called `mine`, as the README makes it."""
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "data/test", count=2)
    tiny = TinyExperiment(tmp_path)
    tiny.values["meta"]["id"] = "mine"
    tiny.set("trainer", max_epochs=1).run()
    for block in blocks(REPOSITORY / "docs/use_a_model.md"):
        if block["what"] == "file: use.py":
            monkeypatch.setattr(sys, "argv", ["use.py"])
            exec(block["text"], {"__name__": "__main__"})
        elif block["what"] == "run":
            for arguments in audiozen_lines(block["text"]):
                monkeypatch.setattr(sys, "argv", ["audiozen", *arguments])
                with pytest.raises(SystemExit) as stop:
                    main()
                assert not stop.value.code, capsys.readouterr().err
    for name in ("enhanced/clip_0.wav", "enhanced/clip_1.wav", "again/clip_1.wav", "clip_0.flac", "denoiser/README.md"):
        assert (tmp_path / name).exists()
    assert (tmp_path / "enhanced/clip_1.wav").read_bytes() == (tmp_path / "again/clip_1.wav").read_bytes()
