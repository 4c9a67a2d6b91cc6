"""A TOML file as read, with the lines of its keys and the ``--set`` assignments laid over it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.problems import Fault, Problem, dotted
from controller.toml_lines import KeyPath, Lines, find_lines
from drivers.instrument import InstrumentConfig

_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")


@dataclass(slots=True)
class Document:
    """A TOML file as read, with the lines of its keys and the assignments laid over it."""

    file: str
    folder: Path
    data: dict[str, Any]
    lines: Lines
    assigned: dict[KeyPath, str] = field(default_factory=dict)

    def problem(self, fault: Fault) -> Problem:
        """Say where a fault is: in the file, or in the assignment that made it."""
        for length in range(len(fault.path), 0, -1):
            if fault.path[:length] in self.assigned:
                origin = f"--set {self.assigned[fault.path[:length]]}"
                return Problem(origin, None, dotted(fault.path), fault.message)
        line = self.lines.of(fault.path)
        return Problem(self.file, line, dotted(fault.path), fault.message)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One ``--set a.b=c``."""

    text: str
    path: tuple[str, ...]
    value: object


def read_document(path: Path, problems: list[Problem]) -> Document | None:
    """Read a TOML file; None, with the problem noted, when that can't be done."""
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        data = tomllib.loads(text)
    except FileNotFoundError:
        problems.append(Problem(str(path), None, "", "there is no such file"))
    except OSError as error:
        problems.append(Problem(str(path), None, "", f"can't be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        where = f"byte {error.start} is not UTF-8; save the file as UTF-8"
        problems.append(Problem(str(path), None, "", where))
    except tomllib.TOMLDecodeError as error:
        problems.append(_syntax_problem(path, text, str(error)))
    else:
        return Document(str(path), path.parent, data, find_lines(text))
    return None


def _syntax_problem(path: Path, text: str, message: str) -> Problem:
    """Say on which line the TOML is broken."""
    found = _WHERE.search(message)
    line, column = (found.group(1), found.group(2)) if found else (None, None)
    what = _WHERE.sub("", message)
    if line is None:
        end = max(1, len(text.rstrip("\n").split("\n")))
        return Problem(str(path), end, "", f"not valid TOML: {what}, at the end of the file")
    return Problem(str(path), int(line), "", f"not valid TOML: {what}, at column {column}")


def parse_sets(sets: Sequence[str], problems: list[Problem]) -> list[Assignment]:
    """Split ``a.b=c`` texts; the value is TOML or, failing that, text."""
    parsed = []
    for text in sets:
        key, equals, raw = text.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        if not equals or not all(path):
            problems.append(Problem(f"--set {text}", None, "", "must look like table.key=value"))
            continue
        try:
            value = tomllib.loads(f"value = {raw}")["value"]
        except tomllib.TOMLDecodeError:
            value = raw.strip()
        parsed.append(Assignment(text, path, value))
    return parsed


def split_sets(assignments: list[Assignment]) -> tuple[list[Assignment], list[Assignment]]:
    """Separate those for the experiment file from those for the instrument file."""
    experiment = [each for each in assignments if each.path[0] != "instrument"]
    instrument = [without_prefix(each) for each in assignments if each.path[0] == "instrument"]
    return experiment, instrument


def without_prefix(assignment: Assignment) -> Assignment:
    """Drop the prefix ``instrument.`` where a table of the instrument file follows it."""
    first, *rest = assignment.path
    if first == "instrument" and rest and rest[0] in InstrumentConfig.model_fields:
        return Assignment(assignment.text, tuple(rest), assignment.value)
    return assignment


def assign(document: Document, assignments: Sequence[Assignment], problems: list[Problem]) -> None:
    """Lay assignments over the data of a file."""
    for each in assignments:
        node: Any = document.data
        path: KeyPath = ()
        try:
            for part in each.path[:-1]:
                key = int(part) if isinstance(node, list) else part
                path = (*path, key)
                node = node.setdefault(key, {}) if isinstance(node, dict) else node[int(key)]
            key = int(each.path[-1]) if isinstance(node, list) else each.path[-1]
            node[key] = each.value
        except (TypeError, ValueError, IndexError):
            what = f"can't be set: {dotted(path) or 'the file'} is neither a table nor that long"
            problems.append(Problem(f"--set {each.text}", None, ".".join(each.path), what))
        else:
            document.assigned[(*path, key)] = each.text
