"""The bar is in a terminal only, and changes nothing about the items."""

import io
import sys

from audiozen_core.scoring.progress import with_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stream, **options):
    """Returns what is shown on standard error, which is this stream for as long as the items come."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        assert list(with_progress(iter(range(3)), total=3, label="reading", **options)) == [0, 1, 2]
    return stream.getvalue()


def test_bar_with_the_count_is_shown_in_a_terminal(monkeypatch):
    printed = shown(monkeypatch, Terminal(), shown=True)
    assert "reading" in printed
    assert "3/3" in printed


def test_nothing_is_shown_in_a_pipe_or_if_it_is_not_wanted(monkeypatch):
    assert shown(monkeypatch, io.StringIO(), shown=True) == ""
    assert shown(monkeypatch, Terminal(), shown=False) == ""
