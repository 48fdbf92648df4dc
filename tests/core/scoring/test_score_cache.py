"""Scores are kept exactly, by several processes at a time, and a cache that can't be used stops nothing."""

import math
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from audiozen_core.scoring.score_cache import FILE, CachedScore, ScoreCache
from audiozen_core.storage.cache_folder import default_cache


def test_scores_are_read_back_exactly_with_their_reasons(tmp_path):
    cache = ScoreCache(tmp_path / "new")
    kept = {"third": CachedScore(1 / 3), "huge": CachedScore(1e300), "negative": CachedScore(-math.inf)}
    for key, score in kept.items():
        cache.keep(key, score)
    cache.keep("none", CachedScore(math.nan, "clean is silent"))
    cache.close()
    again = ScoreCache(tmp_path / "new")
    found = again.find(["third", "huge", "negative", "none", "other"])
    again.close()
    assert {key: found[key] for key in kept} == kept
    assert math.isnan(found["none"].value)
    assert found["none"].reason == "clean is silent"
    assert "other" not in found


def test_value_that_is_missing_without_a_reason_is_not_kept(tmp_path):
    cache = ScoreCache(tmp_path)
    for key, score in {
        "killed": CachedScore(math.nan),
        "silent": CachedScore(math.nan, "silent"),
        "infinite": CachedScore(math.inf),
    }.items():
        cache.keep(key, score)
    cache.write()
    assert cache.find(["killed", "silent", "infinite"]).keys() == {"silent", "infinite"}
    cache.close()


def test_many_keys_are_found_at_once(tmp_path):
    cache = ScoreCache(tmp_path)
    for number in range(2500):
        cache.keep(str(number), CachedScore(float(number)))
    cache.write()
    found = cache.find(map(str, range(3000)))
    cache.close()
    assert len(found) == 2500
    assert found["2499"].value == 2499.0


def fill(folder, name):
    cache = ScoreCache(folder)
    for number in range(200):
        cache.keep(f"{name} {number}", CachedScore(float(number)))
        if number % 20 == 0:
            cache.write()
    cache.close()


def test_processes_write_at_the_same_time_and_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fill, args=(tmp_path, name)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    cache = ScoreCache(tmp_path)
    assert len(cache.find(f"{name} {number}" for name in "abc" for number in range(200))) == 600
    cache.close()


def test_kept_scores_are_lost_or_whole_if_the_process_ends_without_closing(tmp_path):
    cache = ScoreCache(tmp_path)
    cache.keep("a", CachedScore(1.0))
    cache.write()
    cache.keep("b", CachedScore(2.0))
    other = ScoreCache(tmp_path)
    assert other.find(["a", "b"]) == {"a": CachedScore(1.0)}
    other.close()
    cache.close()


@pytest.mark.parametrize("fault", ["damaged", "folder", "full"])
def test_cache_that_cant_be_used_warns_once_and_keeps_nothing(tmp_path, capsys, fault):
    if fault == "damaged":
        (tmp_path / FILE).write_bytes(b"this is not a database, but a text that is long enough" * 50)
    if fault == "folder":
        (tmp_path / FILE).mkdir()
    cache = ScoreCache(tmp_path)
    if fault == "full":
        assert cache._connection is not None
        cache._connection.execute("PRAGMA max_page_count = 2")  # as if the disk had no more room
    for number in range(500):
        cache.keep(f"key {number} {'x' * 100}", CachedScore(1.0))
        cache.write()
    assert cache.find(["a"]) == {}
    cache.close()
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("can't be used") == 1


def test_no_folder_keeps_nothing():
    cache = ScoreCache(None)
    cache.keep("a", CachedScore(1.0))
    assert cache.find(["a"]) == {}
    cache.close()


def test_default_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/audiozen")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "audiozen"


def test_file_is_a_plain_database(tmp_path):
    cache = ScoreCache(tmp_path)
    cache.keep("a", CachedScore(1.5))
    cache.close()
    with sqlite3.connect(tmp_path / FILE) as database:
        assert database.execute("SELECT * FROM scores").fetchall() == [("a", 1.5, "")]
