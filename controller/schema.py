"""The JSON schema of experiment and instrument files, for editors and for the window's forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from controller.config import ExperimentConfig
from drivers.instrument import InstrumentConfig

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def make_schema() -> dict[str, Any]:
    """Return one schema that accepts an experiment file or an instrument file.

    The parts of both are under ``$defs``, by the names of their models.
    """
    models = (ExperimentConfig, InstrumentConfig)
    refs, schema = models_json_schema([(model, "validation") for model in models])
    return {
        "$schema": _DIALECT,
        "title": "probewise experiment or instrument file",
        "anyOf": [refs[(model, "validation")] for model in models],
        **schema,
    }


def schema_text() -> str:
    """Return the schema as it stands in a file."""
    return json.dumps(make_schema(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def write_schema(path: Path) -> None:
    """Write the schema to a file, replacing it."""
    path.write_text(schema_text(), encoding="utf-8")
