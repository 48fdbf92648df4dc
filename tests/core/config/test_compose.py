"""Layers: `extends`, `--set`, and the origin of each value."""

import os
from datetime import date
from pathlib import Path

import pytest

from audiozen_core.config.compose import compose
from audiozen_core.errors import ConfigError

ODD = os.fsdecode(b"caf\xe9")


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return write


def codes_of(composition):
    return [finding.code for finding in composition.findings]


def place(finding):
    return finding.span.file.name, finding.span.line, finding.span.column


def failure(path):
    with pytest.raises(ConfigError) as caught:
        compose(path)
    return caught.value.diagnostics


# ---------------------------------------------------------------------------------------------- extends


def test_extending_merges_tables_and_replaces_other_values(write):
    write("base.toml", "[meta]\nseed = 1\nsave_dir = 'exp'\n[model]\npath = 'sdnn'\nargs = {a = [1, 2], b = 1}\n")
    file = write("exp.toml", "extends = 'base.toml'\n[meta]\nseed = 2\n[model.args]\na = [3]\n")
    composition = compose(file)
    assert composition.values == {
        "meta": {"seed": 2, "save_dir": "exp"},
        "model": {"path": "sdnn", "args": {"a": [3], "b": 1}},
    }
    assert composition.findings == []


def test_origin_of_a_value_is_the_file_and_position_that_set_it(write):
    write("base.toml", "[meta]\nseed = 1\nsave_dir = 'exp'\n")
    file = write("exp.toml", "extends = 'base.toml'\n\n[meta]\nseed = 2\n")
    composition = compose(file, ["meta.device=cpu"])
    assert composition.origin(("meta", "seed")).value_span.line == 4
    assert composition.origin(("meta", "save_dir")).value_span.file.name == "base.toml"
    assert str(composition.origin(("meta", "device"))) == "--set:1:6"
    ((origin, old),) = composition.replaced["meta", "seed"]
    assert (old, origin.value_span.file.name, origin.value_span.line) == (1, "base.toml", 2)


def test_every_value_has_an_origin_and_every_origin_has_a_value(write):
    write("base.toml", "[model]\npath = 'a'\nargs = {x = [{y = 1}], z = 2}\n")
    file = write("exp.toml", "extends = 'base.toml'\n[model]\npath = 'b'\nargs.x = 1\n[[hooks]]\npath = 'h'\n")
    composition = compose(file, ["+hooks.0.args.deep=[1,2]"])

    def key_paths(value, path=()):
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return {path} | {key_path for key, entry in items for key_path in key_paths(entry, (*path, key))}

    assert key_paths(composition.values) - {()} == set(composition.origins)


def test_later_extended_files_override_earlier_ones(write):
    write("one.toml", "[meta]\nseed = 1\ndevice = 'cpu'\nuse_amp = true\n")
    write("two.toml", "[meta]\nseed = 2\ndevice = 'mps'\n")
    file = write("exp.toml", "extends = ['one.toml', 'two.toml']\n[meta]\nseed = 3\n")
    assert compose(file).values["meta"] == {"seed": 3, "device": "mps", "use_amp": True}


def test_extends_is_relative_to_the_file_that_contains_it(write):
    write("shared/deep/root.toml", "[meta]\nseed = 1\n")
    write("shared/base.toml", "extends = 'deep/root.toml'\n[meta]\ndevice = 'cpu'\n")
    file = write("recipes/exp.toml", "extends = '../shared/base.toml'\n")
    assert compose(file).values == {"meta": {"seed": 1, "device": "cpu"}}


def test_two_extended_files_may_extend_the_same_file(write):
    write("root.toml", "[meta]\nseed = 1\n")
    write("a.toml", "extends = 'root.toml'\n")
    write("b.toml", "extends = 'root.toml'\n")
    assert compose(write("exp.toml", "extends = ['a.toml', 'b.toml']\n")).values == {"meta": {"seed": 1}}


def test_error_shows_a_circle_of_extended_files(write):
    write("b.toml", "extends = 'c.toml'\n")
    write("c.toml", "[meta]\n")
    (finding,) = failure(write("a.toml", "extends = 'a.toml'\n"))
    assert finding.code == "AZ132"
    write("c.toml", "extends = 'b.toml'\n")
    (finding,) = failure(write("a.toml", "extends = 'b.toml'\n"))
    assert "b.toml` → `" in finding.message
    assert place(finding) == ("c.toml", 1, 11)


def test_missing_extended_file_is_reported_at_its_entry_in_extends(write):
    write("base.toml", "[meta]\n")
    (finding,) = failure(write("exp.toml", "extends = [\n  'base.toml',\n  'bose.toml',\n]\n"))
    assert place(finding) == ("exp.toml", 3, 3)
    assert "base.toml`?" in finding.notes[0]


def test_syntax_error_in_an_extended_file_is_located_in_that_file(write):
    write("base.toml", "[meta]\nseed = = 1\n")
    (finding,) = failure(write("exp.toml", "extends = 'base.toml'\n"))
    assert place(finding)[:2] == ("base.toml", 2)


@pytest.mark.parametrize("value", ["3", "{a = 1}", "[1]", "true"])
def test_extends_must_be_a_name_or_an_array_of_names(write, value):
    assert [finding.code for finding in failure(write("exp.toml", f"extends = {value}\n"))] == ["AZ132"]


# ---------------------------------------------------------------------------------------------- a new path


def test_new_path_drops_inherited_arguments_with_a_warning(write):
    write("base.toml", "[optimizer]\npath = 'Adam'\n[optimizer.args]\nlr = 1\namsgrad = true\n")
    file = write("exp.toml", "extends = 'base.toml'\n[optimizer]\npath = 'SGD'\nargs.lr = 2\n")
    composition = compose(file)
    assert composition.values["optimizer"] == {"path": "SGD", "args": {"lr": 2}}
    (finding,) = composition.findings
    assert (finding.code, finding.severity) == ("AZ111", "warning")
    assert place(finding) == ("exp.toml", 3, 8)
    assert "`amsgrad`" in finding.message
    assert "`lr`" not in finding.message
    assert "base.toml:3" in finding.notes[0]


def test_hooks_that_replace_those_of_the_extended_file_are_a_warning(write):
    write("base.toml", "[[hooks]]\npath = 'mine.Ema'\n[[hooks]]\npath = 'progress'\n")
    composition = compose(write("exp.toml", "extends = 'base.toml'\n[[hooks]]\npath = 'progress'\nenabled = false\n"))
    assert composition.values["hooks"] == [{"path": "progress", "enabled": False}]
    (finding,) = composition.findings
    assert (finding.code, finding.severity) == ("AZ114", "warning")
    assert "`mine.Ema`" in finding.message
    assert "progress" not in finding.message
    assert place(finding)[:2] == ("exp.toml", 2)


def test_hooks_that_repeat_those_of_the_extended_file_are_no_finding(write):
    write("base.toml", "[[hooks]]\npath = 'mine.Ema'\n")
    text = "extends = 'base.toml'\n[[hooks]]\npath = 'mine.Ema'\n[[hooks]]\npath = 'progress'\n"
    assert compose(write("exp.toml", text)).findings == []


def test_unchanged_path_keeps_inherited_arguments(write):
    write("base.toml", "[optimizer]\npath = 'Adam'\nargs = {lr = 1, eps = 2}\n")
    composition = compose(write("exp.toml", "extends = 'base.toml'\n[optimizer]\npath = 'Adam'\nargs.lr = 2\n"))
    assert composition.values["optimizer"]["args"] == {"lr": 2, "eps": 2}
    assert composition.findings == []


def test_override_of_a_path_drops_only_inherited_arguments(write):
    file = write("exp.toml", "[optimizer]\npath = 'Adam'\nargs = {lr = 1, eps = 2}\n")
    composition = compose(file, ["+optimizer.args.lr=3", "optimizer.path=SGD"])
    assert composition.values["optimizer"] == {"path": "SGD", "args": {"lr": 3}}
    (finding,) = composition.findings
    assert place(finding) == ("--set", 2, 16)


def test_new_path_of_a_nested_component_drops_its_inherited_arguments(write):
    write("base.toml", "[model.args.encoder]\npath = 'a'\nargs = {x = 1}\n")
    file = write("exp.toml", "extends = 'base.toml'\n[model.args.encoder]\npath = 'b'\n")
    assert compose(file).values["model"]["args"]["encoder"] == {"path": "b"}


def test_replacing_a_table_by_a_value_or_the_reverse_is_a_warning(write):
    write("base.toml", "[model.args]\nencoder = {x = 1}\ndecoder = 1\n")
    file = write("exp.toml", "extends = 'base.toml'\n[model.args]\nencoder = 3\ndecoder = {y = 1}\n")
    composition = compose(file)
    assert composition.values["model"]["args"] == {"encoder": 3, "decoder": {"y": 1}}
    assert [place(finding)[1:] for finding in composition.findings] == [(3, 1), (4, 1)]
    assert codes_of(composition) == ["AZ112", "AZ112"]


# ---------------------------------------------------------------------------------------------- old spellings


def test_old_and_new_names_are_merged_across_layers(write):
    write("base.toml", "[trainer.args]\nmax_epoch = 9\nmax_grad_norm = 5\n[loss]\npath = 'a'\n[loss_d]\npath = 'b'\n")
    file = write("exp.toml", "extends = 'base.toml'\n[trainer.args]\nmax_epochs = 2\n[loss_function]\npath = 'c'\n")
    composition = compose(file, ["trainer.args.max_grad_norm=1", "loss_d.path=d"])
    assert composition.values == {
        "trainer": {"args": {"max_epochs": 2, "clip_grad_norm_value": 1}},
        "loss_function": {"path": "c"},
        "loss_function_d": {"path": "d"},
    }
    assert codes_of(composition) == ["AZ110"] * 6
    assert {finding.severity for finding in composition.findings} == {"warning"}
    assert place(composition.findings[0]) == ("base.toml", 2, 1)
    assert composition.findings[0].suggestion == "max_epochs"


def test_old_names_are_ordinary_keys_in_other_sections(write):
    composition = compose(write("exp.toml", "[model.args]\nloss = 1\nmax_epoch = 2\n"))
    assert composition.values == {"model": {"args": {"loss": 1, "max_epoch": 2}}}
    assert composition.findings == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[loss]\npath = 'a'\n[loss_function]\npath = 'b'\n", 3),
        ("[train_dataset]\npath = 'a'\n[dataset]\npath = 'b'\n", 3),
        ("[trainer.args]\nmax_epochs = 1\nmax_epoch = 2\n", 3),
    ],
)
def test_old_and_new_name_in_one_file_are_an_error(write, text, line):
    composition = compose(write("exp.toml", text))
    (finding,) = [finding for finding in composition.findings if finding.severity == "error"]
    assert finding.code == "AZ109"
    assert finding.span.line == line


def test_dataset_and_train_dataset_are_the_same_section(write):
    write("base.toml", "[dataset]\npath = 'a'\nargs.root = 'x'\n")
    composition = compose(write("exp.toml", "extends = 'base.toml'\n[train_dataset.args]\nroot = 'y'\n"))
    assert composition.values == {"dataset": {"path": "a", "args": {"root": "y"}}}
    assert composition.findings == []
    assert composition.spell(("dataset", "args", "root")) == "train_dataset.args.root"


# ---------------------------------------------------------------------------------------------- overrides


@pytest.fixture
def exp(write):
    return write(
        "exp.toml",
        "[meta]\nsave_dir = 'exp'\n[optimizer]\npath = 'Adam'\n[optimizer.args]\nlr = 1e-3\nbetas = [0.9, 0.99]\n"
        "[[validate_dataset]]\npath = 'a'\n[[validate_dataset]]\npath = 'b'\nargs = {limit = 1, 'my root' = 'x'}\n",
    )


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("optimizer.args.lr=3e-4", ("optimizer", "args", "lr"), 3e-4),
        ("optimizer.args.lr = 3", ("optimizer", "args", "lr"), 3),
        ("optimizer.args.betas=[1, 2]", ("optimizer", "args", "betas"), [1, 2]),
        ("optimizer.args.betas.1=0.5", ("optimizer", "args", "betas", 1), 0.5),
        ("optimizer.args.betas[0]=0.5", ("optimizer", "args", "betas", 0), 0.5),
        ("+optimizer.args.betas[2]=1", ("optimizer", "args", "betas", 2), 1),
        ("meta.save_dir=/tmp/some where", ("meta", "save_dir"), "/tmp/some where"),
        ('meta.save_dir="3"', ("meta", "save_dir"), "3"),
        ("meta.save_dir=a=b", ("meta", "save_dir"), "a=b"),
        ('meta.save_dir=""', ("meta", "save_dir"), ""),
        ("meta.save_dir=1\nseed = 2", ("meta", "save_dir"), "1\nseed = 2"),
        ("meta.seed=5", ("meta", "seed"), 5),
        ("meta.use_amp=true", ("meta", "use_amp"), True),
        ("acoustics.sr=8000", ("acoustics", "sr"), 8000),
        ("validate_dataset.1.args.limit=7", ("validate_dataset", 1, "args", "limit"), 7),
        ("validate_dataset[1].args.'my root'=y", ("validate_dataset", 1, "args", "my root"), "y"),
        ("validate_dataset.0.dataloader.batch_size=4", ("validate_dataset", 0, "dataloader", "batch_size"), 4),
        ("+optimizer.args.eps=1e-8", ("optimizer", "args", "eps"), 1e-8),
        ("+model_g.args.deep.er=1", ("model_g", "args", "deep"), {"er": 1}),
        ("optimizer.args={eps = 1}", ("optimizer", "args", "eps"), 1),
        ("train_dataset.path=z", ("dataset", "path"), "z"),
        ("meta.save_dir=2026-11-22", ("meta", "save_dir"), date(2026, 11, 22)),
    ],
)
def test_override_sets_one_value(exp, override, path, value):
    before = compose(exp)
    composition = compose(exp, [override])
    assert composition.findings == []
    assert composition.get(path) == value
    assert composition.values != before.values
    assert composition.origin(path).document.file == Path("--set")


@pytest.mark.parametrize(
    ("override", "column", "suggestion"),
    [
        ("optimizer.args.lrr=1", 16, "lr"),
        ("optimiser.args.lr=1", 1, "optimizer"),
        ("meta.sed=1", 6, "seed"),
        ("+meta.seed.x=1", 12, None),
        ("optimizer.args.lr.x=1", 19, None),
        ("optimizer.args.betas.2=1", 22, None),
        ("+optimizer.args.betas.9=1", 23, None),
        ("validate_dataset.2.path=x", 18, None),
        ("validate_dataset.path=x", 18, None),
        ("meta[0]=1", 5, None),
        ("validate_dataset.²=1", 1, None),
    ],
)
def test_override_of_an_unknown_key_is_reported_with_position_and_suggestion(exp, override, column, suggestion):
    composition = compose(exp, ["meta.seed=1", override])
    (finding,) = composition.findings
    assert finding.code in {"AZ130", "AZ131"}
    assert place(finding) == ("--set", 2, column)
    assert finding.source == override
    assert finding.suggestion == suggestion


@pytest.mark.parametrize(
    "override",
    ["", "+", "=", "=1", "lr", "a b=1", "a..b=1", "a.=1", ".a=1", "meta.seed=", "meta.seed=[1", "meta.seed='x"],
)
def test_malformed_override_is_reported(exp, override):
    composition = compose(exp, [override])
    assert codes_of(composition) == ["AZ130"]
    assert "--set optimizer.args.lr=3e-4" in composition.findings[0].notes[0]


@pytest.mark.parametrize("override", ["+" + ".".join("a" * 200) + "=1", "+meta.x=" + "[" * 200 + "]" * 200])
def test_override_with_two_hundred_levels_is_an_error(exp, override):
    assert codes_of(compose(exp, [override])) == ["AZ130"]


def test_last_override_of_a_key_wins(exp):
    assert compose(exp, ["meta.seed=1", "meta.seed=2"]).values["meta"]["seed"] == 2


def test_position_after_an_override_with_several_lines_is_correct(exp):
    composition = compose(exp, ["meta.save_dir='''\na\nb'''", "meta.sed=1"])
    assert place(composition.findings[0]) == ("--set", 4, 6)


def test_files_that_extend_each_other_twice_are_an_error_that_says_so(write):
    """Without a limit, the files would be merged 2 ** 30 times."""
    write("f0.toml", "[meta]\nseed = 1\n")
    for number in range(1, 31):
        file = write(f"f{number}.toml", f'extends = ["f{number - 1}.toml", "f{number - 1}.toml"]\n[meta]\nseed = 1\n')
    with pytest.raises(ConfigError) as caught:
        compose(file)
    (finding,) = caught.value.diagnostics
    assert finding.message == ("more than 500 files are extended; files that are extended repeatedly count each time")
    assert finding.notes == ("help: extend each file only once",)
    assert finding.span is not None


# ---------------------------------------------------------------------------------------------- not UTF-8


@pytest.mark.parametrize(
    ("override", "environment"),
    [
        (f"predict_dataset.args.folder={ODD}", {}),
        (f'+predict_dataset.args.folders=["{ODD}"]', {}),
        ("predict_dataset.args.folder=${env:ODD}", {"ODD": ODD}),
        (f'+predict_dataset.args={{"{ODD}" = 1}}', {}),
    ],
    ids=["text", "array", "environment", "key"],
)
def test_name_of_a_folder_that_is_not_utf8_is_an_error_at_its_position(write, override, environment):
    file = write("exp.toml", "[predict_dataset]\nargs = {folder = 'new'}\n")
    composition = compose(file, [override], environment)
    finding = composition.findings[0]
    assert finding.code == "AZ121"
    assert finding.span.file.name == "--set"
    assert "bytes that are not UTF-8" in finding.message


def test_name_of_a_folder_with_any_letters_of_utf8_is_no_error(write):
    file = write("exp.toml", "[predict_dataset]\nargs = {folder = 'new'}\n")
    assert compose(file, ["predict_dataset.args.folder=größe/日本/😀"]).findings == []
