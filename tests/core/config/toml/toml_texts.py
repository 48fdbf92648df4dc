"""Hypothesis strategies for TOML texts that use every syntax that TOML has."""

from hypothesis import strategies as st

BLANK = st.sampled_from(["", " ", "\t", "  "])
COMMENT = st.sampled_from(["", "", " # note", "# [not.a.header]", "# key = 'value' \u2028 é"])
LETTERS = "abcé漢🎧"


@st.composite
def keys(draw, number):
    """Draws one part of a key, different from all other parts in the document."""
    name = draw(st.text(LETTERS, max_size=3))
    form = draw(st.sampled_from(["bare", "basic", "literal", "escaped", "awkward"]))
    if form == "bare":
        return f"key-{number}_"
    if form == "basic":
        return f'"{name} {number}"'
    if form == "literal":
        return f"'{name}\\{number}'"
    if form == "escaped":
        return f'"\\u00e9\\"{number}"'
    return f'"{name}.#=[]{{}}{number}"'


@st.composite
def scalars(draw, number):
    return draw(
        st.sampled_from(
            [
                str(number),
                f"+{number}",
                f"0x{number:x}",
                f"1_{number:03}",
                f"{number}.5",
                f"-{number}e-5",
                "true",
                "false",
                "inf",
                "-nan",
                "1979-05-27T07:32:00Z",
                f"1979-05-27 07:32:00.{number:06}-07:00",
                "1979-05-27 07:32:00",
                "1979-05-27",
                "07:32:00",
                f'"basic {number} # \\" \\\\ ] }} , é漢"',
                f"'literal {number} # \" \\ ] }} ,'",
                f'"""{number}"""',
                f'"""\nmany\n# lines \\""" {number} \\\n   "quotes"" \u2028 ]""\\\\"""',
                f'"""{number} ends in two quotes"""""',
                f"'''\nmany\n[lines] \\ {number} ''quotes' é'''",
                f"'''{number} ends in a quote''''",
                '""',
                "''",
                '""""""',
            ]
        )
    )


class Numbers:
    """A counter that makes all keys and values of a document different."""

    def __init__(self):
        self.last = 0

    def next(self):
        self.last += 1
        return self.last


@st.composite
def values(draw, numbers, depth=0):
    form = draw(st.sampled_from(["scalar"] * 4 + ["array", "table"])) if depth < 4 else "scalar"
    if form == "scalar":
        return draw(scalars(numbers.next()))
    count = draw(st.integers(0, 3))
    if form == "table":
        pairs = [draw(pairs_(numbers, depth)) for _ in range(count)]
        return "{" + ",".join(pairs) + "}"
    entries = [_between(draw) + draw(values(numbers, depth + 1)) + _between(draw) for _ in range(count)]
    return "[" + ",".join(entries) + ("," + _between(draw) if entries and draw(st.booleans()) else "") + "]"


@st.composite
def pairs_(draw, numbers, depth):
    key, value = draw(dotted(numbers)), draw(values(numbers, depth + 1))
    return f"{draw(BLANK)}{key}{draw(BLANK)}={draw(BLANK)}{value}{draw(BLANK)}"


def _between(draw):
    return draw(st.sampled_from(["", " ", "\n", "\n  # a ] comment, é\n\t", " # another\n"]))


@st.composite
def dotted(draw, numbers):
    parts = [draw(keys(numbers.next())) for _ in range(draw(st.integers(1, 3)))]
    return f"{draw(BLANK)}.{draw(BLANK)}".join(parts)


@st.composite
def documents(draw):
    """Draws a text that rarely defines a key twice. It may still be invalid, so tests check it with tomli."""
    numbers = Numbers()
    lines = []
    tables, arrays = [], []
    for _ in range(draw(st.integers(0, 8))):
        form = draw(st.sampled_from(["pair", "pair", "table", "array", "subtable", "again", "comment"]))
        end = draw(BLANK) + draw(COMMENT)
        if form == "pair":
            lines.append(f"{draw(BLANK)}{draw(dotted(numbers))}{draw(BLANK)}={draw(BLANK)}{draw(values(numbers))}{end}")
        elif form == "table":
            tables.append(draw(dotted(numbers)))
            lines.append(f"{draw(BLANK)}[{draw(BLANK)}{tables[-1]}{draw(BLANK)}]{end}")
        elif form == "array":
            arrays.append(draw(dotted(numbers)))
            lines.append(f"[[{draw(BLANK)}{arrays[-1]}{draw(BLANK)}]]{end}")
        elif form == "again" and arrays:
            lines.append(f"[[{draw(st.sampled_from(arrays))}]]{end}")
        elif form == "subtable" and tables + arrays:
            lines.append(f"[{draw(st.sampled_from(tables + arrays))}.{draw(dotted(numbers))}]{end}")
        else:
            lines.append(end)
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = "\n".join(lines) + draw(st.sampled_from(["", "\n"]))
    return text.replace("\n", newline)
