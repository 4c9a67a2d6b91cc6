"""The committed JSON schema is that of the models, and describes the shipped files."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from controller.config import ExperimentConfig
from controller.schema import make_schema, schema_text, write_schema
from drivers.instrument import InstrumentConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted([*CONFIGS.glob("experiments/*.toml"), *CONFIGS.glob("instruments/*.toml")])


def test_the_committed_schema_is_the_generated_one() -> None:
    committed = (CONFIGS / "schema.json").read_text(encoding="utf-8")
    assert committed == schema_text(), (
        "configs/schema.json is out of date: write it again with controller.schema.write_schema"
    )


def test_writing_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text("old")
    write_schema(path)
    assert json.loads(path.read_text(encoding="utf-8")) == make_schema()


def test_both_kinds_of_file_are_described_with_all_their_tables() -> None:
    schema = make_schema()
    names = [each["$ref"].rsplit("/", 1)[-1] for each in schema["anyOf"]]
    assert names == ["ExperimentConfig", "InstrumentConfig"]
    for name, model in zip(names, (ExperimentConfig, InstrumentConfig), strict=True):
        assert set(schema["$defs"][name]["properties"]) == set(model.model_fields)
        assert schema["$defs"][name]["additionalProperties"] is False


def references(node: Any) -> list[str]:
    """Return every reference in a schema."""
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [ref for value in node.values() for ref in references(value)]
    if isinstance(node, list):
        return [ref for value in node for ref in references(value)]
    return []


def test_every_reference_leads_somewhere() -> None:
    schema = make_schema()
    targets = {f"#/$defs/{name}" for name in schema["$defs"]}
    assert set(references(schema)) == targets


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_files_use_only_keys_of_the_schema(path: Path) -> None:
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    schema = make_schema()
    name = "ExperimentConfig" if path.parent.name == "experiments" else "InstrumentConfig"
    root = schema["$defs"][name]
    assert set(data) <= set(root["properties"])
    assert set(root["required"]) <= set(data)
    for table, value in data.items():
        part = root["properties"][table]
        ref = part.get("$ref") or part.get("items", {}).get("$ref")
        if ref is None:
            continue
        known = set(schema["$defs"][ref.rsplit("/", 1)[-1]]["properties"])
        for item in value if isinstance(value, list) else [value]:
            assert set(item) <= known
