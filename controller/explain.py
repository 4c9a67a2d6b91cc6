"""Check data by a pydantic model, and say in plain words what is wrong with them."""

from __future__ import annotations

import difflib
import json
import math
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from controller.problems import Fault, did_you_mean, got
from controller.toml_lines import KeyPath

M = TypeVar("M", bound=BaseModel)


def validate(data: Any, model: type[M]) -> tuple[M | None, list[Fault]]:
    """Return data as a model, or None, and what is wrong.

    Nothing is converted (a number in quotes is no number), but lists become tuples and texts
    members of enums. NaN and infinity are refused everywhere.
    """
    faults = [Fault(path, "must be a finite number") for path in _not_finite(data, ())]
    config = None
    try:
        config = model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        known = {fault.path for fault in faults}
        faults += [f for f in explain(error, data, model) if f.path not in known]
    return (None if faults else config), faults


def _not_finite(node: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Yield the place of every NaN and infinity."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _not_finite(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _not_finite(value, (*path, index))
    elif isinstance(node, float) and not math.isfinite(node):
        yield path


def explain(error: ValidationError, document: Any, model: type[BaseModel]) -> list[Fault]:
    """Turn a model's validation errors into faults, one for each place.

    Parameters
    ----------
    document
        The mapping that was validated.
    model
        The model it was validated with, for hints.
    """
    messages: dict[KeyPath, list[str]] = {}
    for item in error.errors(include_url=False):
        path = _real_path(item["loc"], document, item["type"])
        if item["type"] == "union_tag_invalid":  # said of the key that names the kind
            path = (*path, item["ctx"]["discriminator"].strip("'"))
        message = _in_words(item, path, model)
        places = messages.setdefault(path, [])
        if message not in places:
            places.append(message)
    _drop_meant(messages)
    return [Fault(path, _joined(texts, path, document)) for path, texts in messages.items()]


def _drop_meant(messages: dict[KeyPath, list[str]]) -> None:
    """Leave out missing keys that a misspelt one stands for."""
    for path, texts in list(messages.items()):
        meant = re.search(r"^unknown key, did you mean '(.*)'", texts[0])
        if meant and messages.get((*path[:-1], meant.group(1)), [""])[0].startswith("is missing"):
            del messages[(*path[:-1], meant.group(1))]


def _joined(texts: list[str], path: KeyPath, document: Any) -> str:
    """Join what is wrong at one place, and show the value there unless it is a whole table."""
    joined = " or ".join([texts[0], *(text.removeprefix("must be ") for text in texts[1:])])
    value = _value_at(path, document)
    missing = joined.startswith("is missing") or not path
    return _with_value(joined, "" if missing or isinstance(value, dict) else got(value))


def _with_value(message: str, shown: str) -> str:
    """Put the offending value before any hint."""
    for mark in (", did you mean", "; known:"):
        if mark in message:
            head, tail = message.split(mark, 1)
            return f"{head}{shown}{mark}{tail}"
    return message + shown


def _real_path(loc: KeyPath, document: Any, kind: str) -> KeyPath:
    """Drop what pydantic adds to a location (names of union members) and the document lacks."""
    path: list[str | int] = []
    node = document
    for number, part in enumerate(loc):
        last = number == len(loc) - 1
        if isinstance(node, Mapping) and part in node:
            node = node[str(part)]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        elif not (last and kind == "missing"):
            continue
        path.append(part)
    return tuple(path)


def _value_at(path: KeyPath, document: Any) -> object:
    node = document
    for part in path:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return None
    return node


_TYPES = {
    "float": "a number",
    "int": "a whole number",
    "string": "text in quotes",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a table",
    "model": "a table",
    "enum": "text in quotes",
    "path": "a path in quotes",
}


def _in_words(item: Any, path: KeyPath, model: type[BaseModel]) -> str:
    """Say what one pydantic error means."""
    kind, context = str(item["type"]), item.get("ctx", {})
    base = kind.split("_", 1)[0]
    if kind == "extra_forbidden":
        return f"unknown key{did_you_mean(path[-1], _names_at(model, path[:-1]))}"
    if kind == "missing":
        return "is missing, and has no default"
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        listed = str(context.get("expected") or context.get("expected_tags"))
        names = [name.strip(" '") for name in listed.replace(" or ", ", ").split(",")]
        return f"must be one of {', '.join(names)}{_hint(context.get('tag', item['input']), names)}"
    if kind in ("too_long", "too_short"):
        return _wrong_length(kind, context)
    if kind == "string_pattern_mismatch":
        return "must begin with a letter and have only letters, digits, '_' and '-'"
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", item["msg"]))
    if kind == "union_tag_not_found":
        return f"needs a key {context['discriminator']} that says which kind it is"
    bound = _bound(kind, context)
    if bound:
        return f"must be {bound}"
    if base in _TYPES and kind.endswith(("_type", "_parsing", "_from_float")):
        return f"must be {_TYPES[base]}"
    return str(item["msg"])


def _hint(wrong: object, names: list[str]) -> str:
    close = difflib.get_close_matches(str(wrong), names, n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def _bound(kind: str, context: Mapping[str, Any]) -> str:
    """Say in words which bound a number broke, "" when that is not what is wrong."""
    words = {
        "greater_than": ("gt", "greater than"),
        "greater_than_equal": ("ge", "at least"),
        "less_than": ("lt", "less than"),
        "less_than_equal": ("le", "at most"),
    }
    if kind == "finite_number":
        return "a finite number"
    if kind not in words:
        return ""
    key, text = words[kind]
    return f"{text} {context[key]:g}"


def _wrong_length(kind: str, context: Mapping[str, Any]) -> str:
    key, word = ("max_length", "at most") if kind == "too_long" else ("min_length", "at least")
    return f"must have {word} {context[key]} entries, not {context['actual_length']}"


def _names_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """Return the keys a model knows at a path.

    Parts that are no field (indices, keys of free tables, names of union members) are passed over.
    """
    models = {model}
    for part in path:
        fields = [each.model_fields[part] for each in models if part in each.model_fields]
        if fields:
            models = {found for field in fields for found in _models_in(field.annotation)}
    return sorted({_alias(name, each) for each in models for name in each.model_fields})


def _alias(name: str, model: type[BaseModel]) -> str:
    return model.model_fields[name].alias or name


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield every model named anywhere in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models_in(inner)
