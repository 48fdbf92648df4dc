"""Pages hold everything they need, and show any text as text."""

import json
import re

import pytest
from jinja2 import UndefinedError

from audiozen_core.pages.page import clip_time, json_for_script, render_page

PAGE = """{% extends "shell.html" %}{% block main %}<p>{{ text }}</p><script>const data = {{ data|json }}</script>
{% endblock %}{% block script %}{{ asset("player.js") }}{% endblock %}"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "page.html").write_text(PAGE)
    return tmp_path


def test_text_with_html_shows_as_text(folder):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    page = render_page("page.html", [folder], title=evil, text=evil, data={"a": evil})
    assert "alert(1)</script>" not in page
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x") == 3  # the title, the heading, the text
    (data,) = re.findall(r"const data = (.*?)</script>", page)
    assert json.loads(data) == {"a": evil}


def test_page_loads_nothing(folder):
    page = render_page("page.html", [folder], title="t", text="", data=None)
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert "https:" not in page
    assert "class Player" in page  # the script is in the page, and not escaped
    assert "=> {" in page


def test_missing_value_is_an_error_of_ours_and_no_gap(folder):
    with pytest.raises(UndefinedError, match="text"):
        render_page("page.html", [folder], title="t", data=None)


def test_json_has_no_nan_and_no_end_of_script():
    text = json_for_script({"x": [1.5, float("nan"), float("inf")], "</script>": "\u2028<!--"})
    assert json.loads(text) == {"x": [1.5, None, None], "</script>": "\u2028<!--"}
    assert "<" not in text
    assert "\u2028" not in text


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00.0"), (5.04, "0:05.0"), (59.96, "1:00.0"), (754.3, "12:34.3")])
def test_clock(seconds, shown):
    assert clip_time(seconds) == shown
