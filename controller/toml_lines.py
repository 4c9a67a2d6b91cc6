"""On which line of a TOML file each key, table and array item begins.

`tomllib` reads values but forgets where they stood. `find_lines` walks over the same text,
which must have been accepted by `tomllib` before, and remembers lines only.
"""

from __future__ import annotations

import tomllib

KeyPath = tuple[str | int, ...]
"""Keys and, for items of arrays, their index: ("detector", 1, "name")."""
_BLANK = " \t"
_ENDS_BARE_VALUE = ",]}#\n"


class Lines:
    """Lines by path.

    Parameters
    ----------
    by_path : dict
        Line, counted from 1, of each key path.
    """

    def __init__(self, by_path: dict[KeyPath, int]) -> None:
        self._by_path = by_path

    def __contains__(self, path: KeyPath) -> bool:
        return path in self._by_path

    def of(self, path: KeyPath) -> int:
        """Return the line of a path, or of the closest table around it; 1 when there is none."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._by_path:
                return self._by_path[path[:length]]
        return 1


def find_lines(text: str) -> Lines:
    """Return the line of every key path of a valid TOML text.

    A table made by a header stands where its header is, one made by a dotted key where that
    key is, an item of an array where the item begins.
    """
    return Lines(_Walk(text.replace("\r\n", "\n")).run())


class _Walk:
    """One pass over the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._found: dict[KeyPath, int] = {}
        self._last_item: dict[KeyPath, int] = {}

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_BLANK + "\n")
        while self._at < len(self._text):
            table = self._header() if self._peek() == "[" else self._pair(table)
            self._skip(_BLANK + "\n")
        return self._found

    def _peek(self, count: int = 1) -> str:
        return self._text[self._at : self._at + count]

    def _step(self, count: int = 1) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def _skip(self, characters: str) -> None:
        """Go on over these characters and, where they include line ends, over comments."""
        while self._at < len(self._text):
            if self._peek() == "#":
                end = self._text.find("\n", self._at)
                self._step((len(self._text) if end < 0 else end) - self._at)
            elif self._peek() in characters:
                self._step()
            else:
                return

    def _note(self, path: KeyPath) -> None:
        """Remember this line for a path and for tables around it that have none yet."""
        for length in range(1, len(path) + 1):
            self._found.setdefault(path[:length], self._line)

    def _header(self) -> KeyPath:
        """Read ``[a.b]`` or ``[[a.b]]`` and return the path of the table it opens."""
        is_array = self._peek(2) == "[["
        self._step(2 if is_array else 1)
        path: KeyPath = ()
        parts = self._key()
        for number, part in enumerate(parts):
            path = (*path, part)
            if is_array and number == len(parts) - 1:
                self._last_item[path] = self._last_item.get(path, -1) + 1
            if path in self._last_item:
                path = (*path, self._last_item[path])
        self._note(path)
        self._found[path] = self._line  # a header after its own sub-tables is still its place
        self._step(2 if is_array else 1)
        return path

    def _key(self) -> list[str]:
        """Read a bare, quoted or dotted key."""
        parts: list[str] = []
        while True:
            self._skip(_BLANK)
            start = self._at
            if self._peek() in "\"'":
                self._string()
                parts.append(_unquoted(self._text[start : self._at]))
            else:
                while self._peek() not in " \t.=]":
                    self._step()
                parts.append(self._text[start : self._at])
            self._skip(_BLANK)
            if self._peek() != ".":
                return parts
            self._step()

    def _pair(self, table: KeyPath) -> KeyPath:
        """Read ``key = value`` into a table, whose path is returned."""
        path = (*table, *self._key())
        self._note(path)
        self._step()  # the equals sign
        self._skip(_BLANK)
        self._value(path)
        return table

    def _value(self, path: KeyPath) -> None:
        first = self._peek()
        if first in ("'", '"'):
            self._string()
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            while self._at < len(self._text) and self._peek() not in _ENDS_BARE_VALUE:
                self._step()

    def _array(self, path: KeyPath) -> None:
        self._step()
        index = 0
        self._skip(_BLANK + "\n,")
        while self._peek() != "]":
            item = (*path, index)
            self._note(item)
            self._value(item)
            index += 1
            self._skip(_BLANK + "\n,")
        self._step()

    def _inline_table(self, path: KeyPath) -> None:
        self._step()
        self._skip(_BLANK + "\n,")
        while self._peek() != "}":
            self._pair(path)
            self._skip(_BLANK + "\n,")
        self._step()

    def _string(self) -> None:
        """Go on to the end of a string of any of the four kinds."""
        quote = self._peek()
        triple = self._peek(3) == quote * 3
        mark = quote * 3 if triple else quote
        self._step(len(mark))
        while self._peek(len(mark)) != mark:
            self._step(2 if quote == '"' and self._peek() == "\\" else 1)
        self._step(len(mark))
        while triple and self._peek() == quote:  # up to two quotes may end the text itself
            self._step()


def _unquoted(quoted: str) -> str:
    """Return the text of a quoted key."""
    return str(tomllib.loads(f"key = {quoted}")["key"])
