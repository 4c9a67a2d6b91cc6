"""What is wrong with a configuration, in plain words, with file, line and key.

A `Fault` is a problem inside one document, a `Problem` one of a file.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.toml_lines import KeyPath

_SHOWN = 60
"""Longest offending value that is printed whole."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes
    ----------
    file : str
        The file, or the ``--set`` assignment, it is in.
    line : int or None
        Counted from 1; None where there is no line.
    key : str
        Dotted path, e.g. "detector[1].name"; "" for the file as a whole.
    message : str
    """

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(Exception):
    """Configuration files that can't be used; every problem is in ``problems``."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem inside one document: the path of keys, and what is wrong there."""

    path: KeyPath
    message: str


def dotted(path: KeyPath) -> str:
    """Return a path as people write it: ("detector", 1, "name") is "detector[1].name"."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def did_you_mean(wrong: object, known: Iterable[str]) -> str:
    """Return ", did you mean ...?" or the list of what is known."""
    names = list(known)
    close = difflib.get_close_matches(str(wrong), names, n=1)
    if close:
        return f", did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""


def got(value: object) -> str:
    """Return " (got ...)" with the value as TOML would show it, cut when long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return f" (got {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'})"
