"""Tables as text, LaTeX and Markdown."""

import os

from audiozen_core.results.tables import FormattedTable

TABLE = FormattedTable(
    ("SNR", "files", "SI-SDR in dB"), ((("5", "10", "8.00"),), (("all", "100", "12.50"),)), ("a note",)
)


def test_text_is_aligned():
    assert TABLE.render("text").splitlines() == [
        "SNR  files  SI-SDR in dB",
        "---  -----  ------------",
        "5       10          8.00",
        "---  -----  ------------",
        "all    100         12.50",
        "",
        "a note",
    ]


def test_latex_has_booktabs_rules_between_sections_and_notes_as_comments():
    assert TABLE.render("latex").splitlines() == [
        "% a note",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"SNR & files & SI-SDR in dB \\",
        r"\midrule",
        r"5 & 10 & 8.00 \\",
        r"\midrule",
        r"all & 100 & 12.50 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_latex_escapes_its_special_characters():
    rendered = FormattedTable(("a_b", "50 % & more"), ((("{x}~^\\", "#1$"),),)).render("latex")
    assert r"a\_b & 50 \% \& more \\" in rendered
    assert r"\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{} & \#1\$ \\" in rendered


def test_markdown_escapes_bars_and_aligns_numbers_to_the_right():
    lines = FormattedTable(("a|b", "n"), ((("x", "1"),),), ("note",)).render("markdown").splitlines()
    assert lines == [r"| a\|b |   n |", "| :--- | --: |", "| x    |   1 |", "", "note"]


def test_wide_characters_take_two_columns_and_odd_bytes_are_escaped():
    rows = (
        FormattedTable(("voice", "n"), ((("女声", "1"), ("ab", "2"), (os.fsdecode(b"\xe9"), "3")),))
        .render("text")
        .splitlines()
    )
    assert rows[2:5] == ["女声   1", "ab     2", "\\xe9   3"]
