"""What docs/scale.md says."""

import dataclasses
import json
import re

import pytest
import tomli
import torch.distributed as dist

from audiozen_core.distributed.settings import Distributed
from tests.core.distributed.test_data_parallel import experiment
from tests.on_ranks import all_right, on_ranks


@pytest.fixture
def page(repository):
    return (repository / "docs/scale.md").read_text(encoding="utf-8")


def block(page, language, text):
    (found,) = [body for body in re.findall(rf"```{language}\n(.*?)```", page, re.S) if text in body]
    return found


def test_settings_of_the_page_are_the_defaults(page):
    shown = tomli.loads(block(page, "toml", "[distributed]"))["distributed"]
    assert shown == dataclasses.asdict(Distributed())
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == list(shown)


def test_hook_of_the_page_counts_the_files_of_all_ranks(page, tmp_path, monkeypatch):
    (tmp_path / "own_hooks.py").write_text(block(page, "python", "class CountFiles"), encoding="utf-8")
    tiny = experiment(tmp_path, batch_size=2).add_hook("own_hooks.CountFiles")
    all_right(on_ranks(2, lambda rank: tiny.run() and None))
    records = map(json.loads, (tmp_path / "exp/tiny/metrics.jsonl").read_text().splitlines())
    assert {record["validate/files"] for record in records if "validate/files" in record} == {7}


def test_run_of_one_process_calls_nothing_of_torch_distributed(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("called in a run of one process")

    for name in (
        "init_process_group",
        "gather",
        "all_gather",
        "all_gather_object",
        "broadcast",
        "broadcast_object_list",
    ):
        monkeypatch.setattr(dist, name, refuse)
    experiment(tmp_path, batch_size=2).run("train", "test")
    with pytest.raises(AssertionError, match="called in a run"):
        dist.gather(None)
