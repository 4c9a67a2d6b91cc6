"""The words of the gateway wire: commands, replies, frames, errors.

Commands travel DEALER to ROUTER as one JSON part and are answered by one; frames travel PUSH to
PULL as a JSON header and the raw bytes. Nothing is ever pickled. Only loopback addresses are
allowed: the wire is neither encrypted nor authenticated.
"""

from __future__ import annotations

import time
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from drivers.errors import (
    BadFrame,
    BadRecording,
    DriverDisconnected,
    DriverError,
    DriverRefused,
    DriverTimeout,
    DriverUnavailable,
)
from drivers.vocabulary import (
    AnyArray,
    BeamCurrent,
    ColumnState,
    DetectorInfo,
    FrameBlock,
    Receipt,
    ScanCapabilities,
    ScanState,
    SubScan,
)

MAX_COMMAND_BYTES = 64 * 1024
HEARTBEAT_IVL_MS = 250
HEARTBEAT_TIMEOUT_MS = 700
"""A frozen peer is noticed after at most the sum of the two."""

SUB_SCAN = TypeAdapter(SubScan)
RECEIPT = TypeAdapter(Receipt)
SCAN_STATE = TypeAdapter(ScanState)
COLUMN_STATE = TypeAdapter(ColumnState)
BEAM_CURRENT = TypeAdapter(BeamCurrent)
_KINDS: dict[str, type[DriverError]] = {
    kind.__name__: kind
    for kind in (DriverDisconnected, DriverRefused, DriverUnavailable, BadRecording, DriverError)
}


class Command(BaseModel):
    """One request; ``id`` makes it idempotent.

    It is refused unread ``deadline_s`` after ``sent_unix_s``: a machine that was frozen does not
    wake up and carry out what nobody waits for any more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    id: str = Field(min_length=1, max_length=100)
    cmd: str = Field(max_length=50)
    args: dict[str, JsonValue] = Field(default_factory=dict)
    deadline_s: float = Field(gt=0)
    sent_unix_s: float = Field(default_factory=time.time)
    token: str | None = None


class WireError(BaseModel):
    """A typed error on the wire."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    message: str
    fields: dict[str, JsonValue] = Field(default_factory=dict)


class Reply(BaseModel):
    """The answer to a command."""

    model_config = ConfigDict(extra="forbid")

    id: str
    ok: bool
    result: JsonValue = None
    error: WireError | None = None


class Welcome(BaseModel):
    """What a machine tells on ``hello``."""

    instrument: str
    capabilities: ScanCapabilities
    detectors: dict[str, DetectorInfo]
    has_column: bool


class Granted(BaseModel):
    """What a machine tells on ``claim``: the token, and where this holder's frames come from."""

    token: str
    data: str


class FrameHeader(BaseModel):
    """What goes before the bytes of a block; an ``end`` has no bytes."""

    model_config = ConfigDict(extra="forbid")

    seq: int
    detector: str
    sub_scan_id: str
    first_index: int = 0
    expected_total: int = 0
    shape: tuple[int, int, int] = (0, 0, 0)
    dtype: str = "uint8"
    end: Literal["", "completed", "cancelled"] = ""


def wire_error(error: Exception) -> WireError:
    """Describe an error so that the other side can raise it again."""
    if isinstance(error, DriverTimeout):
        fields: dict[str, JsonValue] = {"what": error.what, "waited_s": error.waited_s}
        return WireError(kind="DriverTimeout", message=str(error), fields=fields)
    if isinstance(error, BadFrame):
        fields = {"detector": error.detector, "sub_scan_id": error.sub_scan_id, "why": error.why}
        return WireError(kind="BadFrame", message=str(error), fields=fields)
    if isinstance(error, DriverError):
        return WireError(kind=type(error).__name__, message=str(error))
    message = f"the instrument failed: {type(error).__name__}: {error}"
    return WireError(kind="DriverError", message=message)


def revived(error: WireError | None) -> DriverError:
    """Return the error a machine described, as the type it was there."""
    if error is None:
        return DriverError("the instrument refused without a reason")
    if error.kind == "DriverTimeout":
        waited_s = float(str(error.fields.get("waited_s", "nan")))
        return DriverTimeout(str(error.fields.get("what", error.message)), waited_s)
    if error.kind == "BadFrame":
        words = (str(error.fields.get(key, "?")) for key in ("detector", "sub_scan_id", "why"))
        return BadFrame(*words)
    return _KINDS.get(error.kind, DriverError)(error.message)


def block_parts(block: FrameBlock, seq: int) -> tuple[bytes, memoryview]:
    """Return header and bytes of a block."""
    n, ky, kx = block.data.shape
    header = FrameHeader(
        seq=seq,
        detector=block.detector,
        sub_scan_id=block.sub_scan_id,
        first_index=block.first_index,
        expected_total=block.expected_total,
        shape=(n, ky, kx),
        dtype=block.data.dtype.str,
    )
    data: AnyArray = np.ascontiguousarray(block.data)
    return header.model_dump_json().encode(), data.reshape(-1).view(np.uint8).data


def block_of(header: FrameHeader, data: memoryview, now_s: float) -> FrameBlock:
    """Return the block a header and its bytes describe; the bytes are not copied.

    Raises
    ------
    BadFrame
        If the bytes are not as many as the header says, or the dtype is not a number's.
    """
    try:
        dtype = np.dtype(header.dtype)
        if dtype.kind not in "iuf":
            raise ValueError(f"dtype {header.dtype} is not a number's")
        array: AnyArray = np.frombuffer(data, dtype=dtype).reshape(header.shape)
    except (ValueError, TypeError) as error:
        why = f"{len(data)} bytes are no {header.shape} of {header.dtype}: {error}"
        raise BadFrame(header.detector, header.sub_scan_id, why) from error
    return FrameBlock(
        data=array,
        first_index=header.first_index,
        expected_total=header.expected_total,
        detector=header.detector,
        sub_scan_id=header.sub_scan_id,
        received_at_s=now_s,
    )


def require_loopback(endpoint: str) -> str:
    """Return the endpoint if it is a TCP address of this machine alone.

    Raises
    ------
    ValueError
        Otherwise, with what to write instead.
    """
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"'{endpoint}' is no endpoint: {error}") from error
    if parts.scheme != "tcp" or host is None or port is None:
        raise ValueError(f"'{endpoint}' is no endpoint: write tcp://127.0.0.1:PORT")
    if host not in {"127.0.0.1", "localhost"}:
        raise ValueError(
            f"'{endpoint}' can be reached from other machines, and the wire is not protected: "
            f"use tcp://127.0.0.1:{port}"
        )
    return f"tcp://127.0.0.1:{port}"


_adapters: dict[type, TypeAdapter[Any]] = {}


def dump(value: Any) -> JsonValue:
    """Return a shared dataclass as JSON values."""
    kind = type(value)
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    result: JsonValue = _adapters[kind].dump_python(value, mode="json")
    return result
