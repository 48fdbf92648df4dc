"""The page in a real browser: it plays, switches, zooms and fits, and loads nothing."""

from __future__ import annotations

import pytest

from tests.browser import chromium
from tests.core.report.conftest import EVIL

pytestmark = pytest.mark.xdist_group("browser")

# What is heard: the loudest sample of the newest ones that have left the player.
HEAR = """
  const analyser = Players.context.createAnalyser();
  Players.output.connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const heard = () => { analyser.getFloatTimeDomainData(samples); return Math.max(...samples.map(Math.abs)); };
  const until = async (done) => { while (!done()) await new Promise((next) => setTimeout(next, 10)); };
"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def opened(browser, page):
    """The page at the width of a laptop, with what it has said and what it has asked for."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    tab = context.new_page()
    tab.said, tab.asked = [], []
    tab.on("console", lambda message: tab.said.append(message.text))
    tab.on("pageerror", lambda error: tab.said.append(str(error)))
    tab.on("request", lambda request: tab.asked.append(request.url[:60]))
    tab.goto(page.path.as_uri())
    yield tab
    context.close()


def test_every_player_plays_each_system(opened):
    found = opened.evaluate(
        f"""async () => {{
          const results = [];
          await Players.all[0].load();
          {HEAR}
          const silent = heard();
          for (const player of Players.all) {{
            player.loop.checked = true;
            for (let index = 0; index < player.tracks.length; index += 1) {{
              player.choose(index);
              player.moveTo(0);
              await player.play();
              await until(() => player.now() > 0.05 && heard() > 0.001);
              results.push([player.isPlaying, player.now() > 0, heard()]);
              player.stop();
            }}
            player.loop.checked = false;
          }}
          await until(() => heard() === 0);
          return [silent, results, Players.all.length];
        }}"""
    )
    silent, results, players = found
    assert silent == 0  # nothing is heard before
    assert players == 5  # four files, and a validation sample
    assert len(results) == 20
    assert all(is_playing and advanced and level > 0.001 for is_playing, advanced, level in results)


def test_switching_keeps_the_moment_and_changes_the_sound(opened):
    before, after, gains, chosen = opened.evaluate(
        """async () => {
          const player = Players.all[0];
          player.loop.checked = true;
          player.choose(0);
          await player.play();
          while (player.now() < 0.1) await new Promise((next) => setTimeout(next, 5));
          const sources = player.sources;
          const before = player.now();
          player.choose(3);
          const after = player.now();
          const isSame = player.sources === sources;
          while (player.gains[3].gain.value < 0.99) await new Promise((next) => setTimeout(next, 5));
          const gains = player.gains.map((gain) => gain.gain.value);
          player.stop();
          player.loop.checked = false;
          return [before, after, isSame ? gains : [], player.tracks[3].classList.contains("heard")];
        }"""
    )
    assert 0.1 <= before <= after < before + 0.05
    assert [gain > 0.5 for gain in gains] == [False, False, False, True]
    assert chosen


def test_keyboard_plays_switches_and_moves(opened):
    opened.locator(".clip .play").nth(1).focus()
    state = "() => { const p = Players.all[1]; return [p.isPlaying, p.chosen, p.loop.checked]; }"
    opened.keyboard.press("l")
    opened.keyboard.press("Enter")
    opened.wait_for_function("() => Players.all[1].isPlaying")
    opened.keyboard.press("2")
    assert opened.evaluate(state) == [True, 1, True]
    opened.keyboard.press("4")
    assert opened.evaluate(state) == [True, 3, True]
    opened.keyboard.press("Enter")
    assert opened.evaluate(state) == [False, 3, True]
    opened.keyboard.press("l")
    opened.keyboard.press("ArrowLeft")
    assert opened.evaluate("() => Players.all[1].now()") == 0


def test_tab_reaches_the_controls_in_their_order_with_a_visible_focus(opened):
    # A browser goes on from where the last click was, so the test begins with the first element itself.
    opened.evaluate("() => { scrollTo(0, 0); document.querySelector('a, button, input').focus(); }")
    opened.keyboard.press("Shift+Tab")
    opened.keyboard.press("Tab")
    seen = []
    for _ in range(9):
        seen.append(
            opened.evaluate(
                "() => [document.activeElement.textContent.trim().slice(0, 19) || document.activeElement.ariaLabel, "
                "getComputedStyle(document.activeElement).outlineStyle]"
            )
        )
        opened.keyboard.press("Tab")
    names = [name for name, _ in seen]
    assert names[0] == "Skip to the content"
    assert names[2:8] == ["Summary", "Scores", "Listen", "Curves", "Samples", "Settings"]
    assert {outline for _, outline in seen} == {"solid"}


def test_charts_zoom_together_and_follow_their_controls(opened):
    ranges = "() => Charts.all.filter((c) => c.plot).map((c) => c.plot.scales.x.max - c.plot.scales.x.min)"
    opened.locator("#curves").scroll_into_view_if_needed()
    before = opened.evaluate(ranges)
    assert len(before) >= 3
    box = opened.locator("[data-chart='0'] .u-over").bounding_box()
    opened.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 50)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 50, steps=4)
    opened.mouse.up()
    opened.wait_for_function(f"(whole) => ({ranges})().every((width) => width < whole * 0.9)", arg=before[0])
    opened.click("#zoom-out")
    opened.wait_for_function(f"(whole) => ({ranges})().every((width) => width === whole)", arg=before[0])

    shown = "() => Charts.all[0].plot.series.slice(1).filter((line) => line.show).length"
    count = opened.evaluate(shown)
    opened.locator("#chart-controls [data-run]").first.uncheck()
    assert 0 < opened.evaluate(shown) < count
    opened.locator("#chart-controls [data-run]").first.check()
    assert opened.evaluate("() => Charts.all[0].plot.scales.y.distr") == 1
    opened.locator("#log").check()
    assert opened.evaluate("() => Charts.all[0].plot.scales.y.distr") == 3
    opened.locator("#log").uncheck()
    opened.locator("#smoothing").fill("0.8")
    smoothed = opened.evaluate(
        "() => Charts.all[0].columns.slice(1, 3).map((column) => column.filter((value) => value !== undefined))"
    )
    raw, smooth = smoothed
    weight = [(0.8 * raw[0] + raw[1]) / 1.8] if len(raw) > 1 else []
    assert smooth[:2] == pytest.approx([raw[0], *weight])
    opened.locator("#smoothing").fill("0")
    opened.select_option("#xaxis", "epochs")
    assert opened.evaluate("() => Charts.all[0].plot.data[0].at(-1)") == 2
    opened.select_option("#xaxis", "steps")


def test_values_follow_the_keyboard_and_are_a_table_for_screen_readers(opened):
    chart = opened.locator("[data-chart='0']")
    chart.locator(".canvas").focus()
    opened.keyboard.press("ArrowLeft")
    assert chart.locator(".values").inner_text().startswith("step ")
    chart.locator("summary").click()
    rows = chart.locator("tbody tr")
    rows.first.wait_for()
    assert rows.count() == opened.evaluate("() => Charts.all[0].plot.data[0].length")
    assert "from" in chart.locator(".canvas").get_attribute("aria-label")


def test_screen_readers_get_names_headings_and_texts(opened):
    problems = opened.evaluate(
        """() => {
          const found = [];
          for (const image of document.images) if (!image.alt) found.push("image without a text");
          for (const table of document.querySelectorAll("#summary table, #scores table, #settings table"))
            if (!table.caption?.textContent.trim()) found.push("table without a caption");
          for (const one of document.querySelectorAll("button, input, select"))
            if (!one.ariaLabel && !one.textContent.trim() && !one.labels?.length) found.push(one.outerHTML);
          let level = 0;
          for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
            const own = Number(heading.tagName[1]);
            if (own > level + 1) found.push(`${heading.tagName} after H${level}: ${heading.textContent}`);
            level = own;
          }
          const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
          if (new Set(ids).size < ids.length) found.push("two elements with one id");
          return found;
        }"""
    )
    assert problems == []


def test_html_in_a_name_is_text(opened):
    assert opened.locator("#summary").inner_text().count(EVIL) >= 2
    assert opened.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("width", [1440, 390])
def test_page_fits_the_screen(opened, width):
    opened.set_viewport_size({"width": width, "height": 900})
    opened.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    wide = opened.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((one) => {
          const box = one.getBoundingClientRect();
          const mayScroll = one.closest(".table, pre, nav ul, .unseen, .skip, .u-wrap");
          return box.right > innerWidth + 1 && box.width && !mayScroll;
        }).map((one) => one.outerHTML.slice(0, 100))"""
    )
    assert wide == []
    assert opened.evaluate("() => document.documentElement.scrollWidth") == width


def test_theme_switches_and_draws_the_charts_anew(opened):
    opened.set_viewport_size({"width": 1440, "height": 900})
    paper = "() => getComputedStyle(document.body).backgroundColor"
    stroke = "() => Charts.all[0].plot.series[1].stroke()"
    before = opened.evaluate(paper), opened.evaluate(stroke)
    opened.click("#theme")
    after = opened.evaluate(paper), opened.evaluate(stroke)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_page_says_nothing_in_the_console_and_asks_for_nothing(opened, page):
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [page.path.as_uri()[:60]]
    # The policy would stop a request, which is seen here.
    opened.evaluate("() => fetch('https://example.org/').catch(() => null)")
    assert any("Content Security Policy" in text for text in opened.said)
