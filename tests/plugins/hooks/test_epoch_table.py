"""On a terminal, the progress is a table: a row for each validation and each epoch, with a bar below it."""

from __future__ import annotations

import json
import math
import re
import sys

import pytest
import torch
from rich.cells import cell_len

from audiozen_core import logging
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.logging import get_logger, log_file, shown_as
from audiozen_plugins.hooks.epoch_table import EpochRow, EpochTable
from audiozen_plugins.hooks.progress import ProgressBar
from tests.tiny_training import TinyTrainer, make_loader, make_trainer

METRICS = {
    "train/loss": 0.30061,
    "train/grad_norm": 1.5,
    "validate/score": 9.3792,
    "validate/si_sdr": 9.3792,
    "validate/si_sdr_noisy": 9.0522,
    "validate/loss": 0.3009,
}
MANY = {f"train/loss/part_{index}": 1.0 + index for index in range(30)}


def row(epoch="1/100", metrics=METRICS, rate="0.001", *, is_best=False, seconds=12.3, left=1200.0):
    return EpochRow(epoch, metrics, rate, is_best, seconds, left)


def table(**options):
    return EpochTable(**{"colours": False, "unicode": True, **options})


def cells(line):
    return re.split(r"  +", line.strip())


def columns(header, line):
    """Returns the cells of a row by their headings: each ends where its heading ends."""
    ends = [match.end() for match in re.finditer(r"\S+( \S+)*", header)]
    starts = [0, *ends[:-1]]
    names = [header[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    return {name: line[start:end].strip() for name, start, end in zip(names, starts, ends, strict=True)}


def test_first_row_has_a_header_with_the_scores_of_the_input():
    header, noisy, first = table().lines(row(), 120)
    assert cells(header) == ["epoch", "loss", "grad_norm", "si_sdr", "best", "val loss", "lr", "time", "left"]
    assert cells(noisy) == ["noisy", "9.052"]
    assert columns(header, noisy)["si_sdr"] == "9.052"
    values = columns(header, first)
    assert (values["epoch"], values["loss"], values["si_sdr"]) == ("1/100", "0.3006", "9.379")
    assert (values["lr"], values["time"], values["left"]) == ("0.001", "12s", "20m00s")


def test_following_rows_are_aligned_and_have_no_header():
    made = table()
    lines = made.lines(row(), 120)
    for value in (1.0, 123.456, 1.2e-5, -7.0, math.nan, math.inf):
        lines += made.lines(row(metrics={**METRICS, "train/grad_norm": value}), 120)
    assert len(lines) == 3 + 6
    assert [columns(lines[0], line)["grad_norm"] for line in lines[3:]] == [
        "1.000",
        "123.5",
        "1.200e-05",
        "-7.000",
        "nan",
        "inf",
    ]
    assert len({len(line) for line in lines[2:]}) == 1


def test_header_comes_again_when_a_scalar_is_new_and_never_because_one_is_missing():
    made = table()
    assert len(made.lines(row(metrics={"train/loss": 1.0}), 120)) == 2
    assert len(made.lines(row(metrics=METRICS), 120)) == 3
    (without,) = made.lines(row(metrics={"train/loss": 1.0}), 120)
    assert "–" in without
    (again,) = made.lines(row(metrics=METRICS), 120)
    assert "–" not in again


def test_header_comes_again_when_a_value_needs_more_room_or_the_terminal_has_another_width():
    made = table()
    made.lines(row(), 120)
    assert len(made.lines(row(rate="0.001/0.0001/1e-05"), 120)) == 3
    assert len(made.lines(row(), 120)) == 1
    assert len(made.lines(row(), 60)) == 3


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_row_fits_the_terminal_and_has_the_most_important_scalars(width):
    lines = table().lines(row(metrics={**MANY, **METRICS}, is_best=True), width)
    assert max(map(len, lines)) < width
    headings = cells(lines[0])
    assert headings[0] == "epoch"
    assert {"loss", "si_sdr", "best"} <= set(headings)
    assert ("left" in headings) == (width >= 60)


def test_long_names_of_scalars_are_cut():
    header = table().lines(row(metrics={"train/" + "long_" * 20: 1.0}), 80)[0]
    assert "long_long_long_lo…" in header


def test_metric_of_equal_value_is_not_the_score_if_the_score_is_zero():
    header = table().lines(row(metrics={"validate/score": 0.0, "validate/errors": 0.0}), 120)[0]
    assert cells(header)[:4] == ["epoch", "score", "best", "errors"]


def test_best_is_marked_in_green_where_there_are_colours():
    assert "\x1b[32m" in table(colours=True).lines(row(is_best=True), 80)[-1]
    assert "\x1b[32m" not in table(colours=True).lines(row(), 80)[-1]
    assert "\x1b" not in "".join(table().lines(row(is_best=True), 80))
    assert "★" in table().lines(row(is_best=True), 80)[-1]


def test_ascii_terminals_get_ascii():
    lines = table(unicode=False).lines(row(metrics={**MANY, "train/" + "x" * 40: 1.0}, is_best=True, left=None), 200)
    assert all(line.isascii() for line in lines)


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Trains with a hook that thinks it is on a terminal of 100 columns. Returns a function that does so."""
    logging.configure()

    def train(*, dumb=False, hooks=(), epochs=2, width=100, **options):
        progress = ProgressBar(bars=True)
        progress.console._width = width
        if dumb:
            monkeypatch.setattr(type(progress.console), "is_dumb_terminal", True)
        trainer = make_trainer(hooks={"progress": progress, **dict(hooks)}, max_epochs=epochs, **options)
        trainer.train(make_loader(), [make_loader()])
        return capsys.readouterr().err.splitlines()

    return train


def test_training_prints_a_table(terminal):
    lines = [line for line in terminal() if line.strip()]
    assert cells(lines[0]) == ["epoch", "loss", "score", "best", "lr", "time", "left"]
    assert [line.split()[0] for line in lines[1:3]] == ["1/2", "2/2"]
    assert "train/loss=" not in "".join(lines)
    assert "training is over" in lines[3]


def test_log_file_has_the_same_lines_as_without_a_terminal(terminal, tmp_path):
    with log_file(tmp_path / "run.log"):
        terminal()
    events = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]
    epochs = [event for event in events if event["event"].startswith("epoch ")]
    assert [event["event"] for event in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert {"train/loss", "validate/score", "lr", "left", "time", "level"} <= epochs[0].keys()


def test_lines_of_others_are_not_lost_and_do_not_break_the_table(terminal):
    class Warns:
        @hookimpl
        def on_training_step_end(self, trainer, batch_idx):
            if batch_idx == 1:
                trainer.log.warning("a [bold]warning[/bold]", epoch=trainer.progress.epoch + 1)

    lines = terminal(hooks={"warns": Warns()})
    assert sum("a [bold]warning[/bold]" in line for line in lines) == 2
    assert [line.split()[0] for line in lines if re.match(r" *\d/\d ", line)] == ["1/2", "2/2"]


def test_validation_within_an_epoch_has_a_row(terminal):
    lines = terminal(epochs=1, validation_interval_steps=2)
    rows = [line for line in lines if re.match(r" *(step \d|1/1) ", line)]
    assert [cells(line)[0] for line in rows] == ["step 2", "step 4", "1/1"]


def test_dumb_terminal_gets_the_table_without_a_bar(terminal):
    assert "\x1b" not in "".join(lines := terminal(dumb=True))
    assert [line.split()[0] for line in lines if re.match(r" *\d/\d ", line)] == ["1/2", "2/2"]


class NanTrainer(TinyTrainer):
    def validation_epoch_end(self, outputs):
        return {"score": math.nan}


def test_score_that_is_nan_is_shown_as_nan(terminal):
    lines = terminal(cls=NanTrainer, epochs=1)
    header = next(line for line in lines if line.lstrip().startswith("epoch"))
    assert columns(header, next(line for line in lines if line.lstrip().startswith("1/1")))["score"] == "nan"


def test_several_rates_are_one_cell(terminal):
    def optimizer(weights):
        first, *others = weights
        return torch.optim.SGD([{"params": [first]}, {"params": others, "lr": 0.01}], lr=0.1)

    assert any("0.1/0.01" in line for line in terminal(optimizer=optimizer, epochs=1))


def test_nothing_is_drawn_more_often_than_five_times_a_second(monkeypatch):
    """A step of which nothing is drawn formats nothing."""
    progress = ProgressBar(bars=True)
    monkeypatch.setattr("audiozen_plugins.hooks.progress.time.monotonic", lambda: 1000.0)
    monkeypatch.setattr(progress, "_note", lambda *_: pytest.fail("formatted"))
    make_trainer(hooks={"progress": progress}, max_epochs=1).train(make_loader())


def test_metric_with_a_wide_name_keeps_the_columns_aligned():
    header, *lines = table().lines(row(metrics={"train/loss": 0.3, "train/语音增强质量": 1.5}), 120)
    assert "语音增强质量" in header
    assert {cell_len(line) for line in lines} == {cell_len(header)}


def test_text_is_shown_in_the_place_of_a_line_whose_level_is_shown(capsys):
    logging.configure(level="warning")
    with shown_as("a row"):
        get_logger().info("hidden")
        get_logger().warning("kept from the console")
    get_logger().warning("as it is")
    shown = capsys.readouterr().err
    assert shown.splitlines()[0] == "a row"
    assert "kept" not in shown
    assert "hidden" not in shown
    assert "as it is" in shown
    logging.configure()


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), ("", "")])
def test_lines_have_colours_only_where_they_are_wanted(name, value, monkeypatch, capsys):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    if name:
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    logging.configure()
    get_logger().warning("a line")
    assert ("\x1b[" in capsys.readouterr().err) == (not name)
    monkeypatch.undo()
    logging.configure()
