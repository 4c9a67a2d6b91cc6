"""Lines of keys in TOML texts: every key of every kind of table is found where it stands."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.toml_lines import KeyPath, find_lines

TEXT = '''# a comment with = and [brackets]
title = "x # no comment"

[scan]
field_nm = [
  24.0,  # first
  24.0,
]
"odd key" = 'it\\'
park.position.y = 1

[[detector]]
name = "haadf"

[[detector]]
  name = "maadf"
  [detector.calibration]
  mrad = 3
  [[detector.mask]]
  row = 1
  [[detector.mask]]
  row = 2

[drivers.virtual.specimen]
kind = "graphene"   # [not.a.header]
note = """
[nor.this]
line = 1
"""
last = { a = 1, b = { c = [ { d = 2 } ] } }

[drivers.virtual]
seed = 1
when = 2024-05-01 10:00:00
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("scan",), 4),
        (("scan", "field_nm"), 5),
        (("scan", "field_nm", 0), 6),
        (("scan", "field_nm", 1), 7),
        (("scan", "odd key"), 9),
        (("scan", "park", "position", "y"), 10),
        (("detector", 0), 12),
        (("detector", 0, "name"), 13),
        (("detector", 1), 15),
        (("detector", 1, "name"), 16),
        (("detector", 1, "calibration"), 17),
        (("detector", 1, "calibration", "mrad"), 18),
        (("detector", 1, "mask", 0), 19),
        (("detector", 1, "mask", 1, "row"), 22),
        (("drivers", "virtual", "specimen", "kind"), 25),
        (("drivers", "virtual", "specimen", "last", "b", "c", 0, "d"), 30),
        (("drivers", "virtual"), 32),
        (("drivers", "virtual", "seed"), 33),
        (("drivers", "virtual", "when"), 34),
    ],
)
def test_line_of_each_kind_of_key(path: KeyPath, line: int) -> None:
    assert path in find_lines(TEXT)
    assert find_lines(TEXT).of(path) == line


def test_a_missing_key_is_where_its_table_is() -> None:
    lines = find_lines(TEXT)
    assert lines.of(("detector", 1, "driver")) == 15
    assert lines.of(("drivers", "virtual", "specimen", "tilt_deg")) == 24
    assert lines.of(("beam", "driver")) == 1


def test_windows_line_ends_count_once() -> None:
    assert find_lines("a = 1\r\n\r\n[b]\r\nc = 2\r\n").of(("b", "c")) == 4


def test_multi_line_string_that_ends_in_quotes() -> None:
    text = "a = \"\"\"one\ntwo\"\"\"\"\nb = '''x\n'''''\nc = 1\n"
    assert tomllib.loads(text)["c"] == 1
    assert find_lines(text).of(("b",)) == 3
    assert find_lines(text).of(("c",)) == 5


KEYS = st.one_of(
    st.text("abcXYZ019_-", min_size=1, max_size=4),
    st.text('ä"\\ .#]=[', min_size=1, max_size=4),
)
BLANK_LINES = st.sampled_from(["", "\n", "# [x]\n", "   # a = 1\n\n"])


def quoted(key: str) -> str:
    """Return a key as TOML: bare where it may be, else as a basic string."""
    if key.isascii() and key.replace("_", "").replace("-", "").isalnum():
        return key
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[KeyPath, int]]:
    """Draw a TOML text whose values name themselves, with the line of each value."""
    text = ""
    expected: dict[KeyPath, int] = {}

    def pairs(table: KeyPath) -> None:
        nonlocal text
        for key in draw(st.lists(KEYS, max_size=3, unique=True)):
            text += draw(BLANK_LINES)
            line = text.count("\n") + 1
            shape = draw(st.sampled_from(["bare", "multi", "array", "inline"]))
            expected[(*table, key)] = line
            if shape == "array":
                text += f"{quoted(key)} = [\n  1,\n\n  {{ k = 2 }} ]\n"
                expected[(*table, key, 0)] = line + 1
                expected[(*table, key, 1, "k")] = line + 3
            elif shape == "inline":
                text += f"{quoted(key)} = {{ p.q = 'a}}' , r = [] }}\n"
                expected[(*table, key, "p", "q")] = line
                expected[(*table, key, "r")] = line
            else:
                value = '"""\n[t]\n\\"""\n"""' if shape == "multi" else "1.5 # = x"
                text += f"{quoted(key)} = {value}\n"

    for number in range(draw(st.integers(0, 3))):
        name = f"t{number}"
        if draw(st.booleans()):
            for index in range(draw(st.integers(1, 3))):
                text += draw(BLANK_LINES) + f"[[{name}]]  # item\n"
                expected[(name, index)] = text.count("\n")
                pairs((name, index))
        else:
            text += draw(BLANK_LINES) + f"[ {name} . sub ]\n"
            expected[(name, "sub")] = text.count("\n")
            pairs((name, "sub"))
    return text, expected


def paths_of(node: Any, path: KeyPath = ()) -> list[KeyPath]:
    """Return the paths of everything in a parsed document."""
    if isinstance(node, dict):
        inner = [p for key, value in node.items() for p in paths_of(value, (*path, key))]
    elif isinstance(node, list):
        inner = [p for index, value in enumerate(node) for p in paths_of(value, (*path, index))]
    else:
        inner = []
    return [path, *inner] if path else inner


@settings(max_examples=60, deadline=None)
@given(documents())
def test_every_key_of_any_document_has_its_own_line(
    document: tuple[str, dict[KeyPath, int]],
) -> None:
    text, expected = document
    lines = find_lines(text)
    assert {path: lines.of(path) for path in expected} == expected
    assert [path for path in paths_of(tomllib.loads(text)) if path not in lines] == []
