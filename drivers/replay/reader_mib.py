"""Read Quantum Detectors' Medipix files (``.mib``, with or without the ``.hdr`` beside them).

A mib file is frame after frame, each a text header ("MQ1,sequence,header bytes,chips,nx,ny,type,
...") followed by big-endian pixels. Frames keep the byte order's rows: row 0 is the first on the
wire, which is what the live detector sends. RosettaSciIO turns the same frames upside down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drivers.replay.checks import bad
from drivers.replay.recording import Recording, from_array
from drivers.vocabulary import AnyArray

PIXELS = {"U08": ">u1", "U16": ">u2", "U32": ">u4", "U64": ">u8"}
HEADER_FIELDS = 7
_RAW_GROUP = {6: (">u1", 8), 12: (">u2", 4)}
"""Raw frames send 64-bit words back to front: type of a pixel and pixels in a word, by depth."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What the text before each frame says."""

    header_bytes: int
    shape: tuple[int, int]
    kind: str
    depth: int


def read_mib(path: Path, scan_shape: tuple[int, int] | None) -> Recording:
    """Map a mib file into memory.

    ``scan_shape`` is taken from the ``.hdr`` file when that counts several frames per trigger
    (one trigger per scan line).

    Raises
    ------
    BadRecording
        If the file is not mib, is cut short, is of a kind not read here, or the shape of the scan
        is not known.
    """
    header = parse_header(path)
    dtype, group = _pixel_type(path, header)
    layout = np.dtype([("header", f"V{header.header_bytes}"), ("pixels", dtype, header.shape)])
    count = _frame_count(path, layout.itemsize)
    shape = scan_shape or _scan_from_hdr(path, count)
    if shape is None:
        why = f"nothing says how its {count} frames lie on the scan"
        raise bad(path, why, "set scan_shape = [rows, columns] for this channel")

    def load() -> AnyArray:
        return np.asarray(np.memmap(path, dtype=layout, mode="r")["pixels"])

    column = np.arange(header.shape[1])
    columns = column - column % group + (group - 1 - column % group) if group > 1 else None
    return from_array(path, load, shape, title=path.stem, unit="counts", columns=columns)


def _frame_count(path: Path, frame_bytes: int) -> int:
    """Return how many frames there are, all whole and the last one where it should be."""
    size = path.stat().st_size
    if size == 0 or size % frame_bytes:
        why = f"it has {size} bytes, not a multiple of the {frame_bytes} of one frame"
        raise bad(path, why, "it was cut short: copy it again")
    with path.open("rb") as file:
        file.seek(size - frame_bytes)
        if file.read(3) != b"MQ1":
            why = "its last frame does not start with MQ1"
            raise bad(path, why, "it is corrupt: copy it again")
    return size // frame_bytes


def parse_header(path: Path) -> FrameHeader:
    """Read the header of the first frame.

    Raises
    ------
    BadRecording
        If it is not one.
    """
    with path.open("rb") as file:
        text = file.read(768).decode("ascii", errors="replace")
    fields = [field.strip() for field in text.split(",")]
    if fields[0] != "MQ1" or len(fields) < HEADER_FIELDS:
        raise bad(path, "it does not start with an MQ1 header", "choose a Merlin .mib file")
    try:
        header_bytes, nx, ny = int(fields[2]), int(fields[4]), int(fields[5])
    except ValueError as error:
        raise bad(path, f"its header is not understood ({error})", "record it again") from error
    if header_bytes <= 0 or nx <= 0 or ny <= 0:
        raise bad(path, f"its header gives {nx} by {ny} pixels", "record it again")
    depth = re.search(r"MQ1A,[^,]*,[^,]*,(\d+)", text[:header_bytes])
    return FrameHeader(header_bytes, (ny, nx), fields[6], int(depth[1]) if depth else 0)


def _pixel_type(path: Path, header: FrameHeader) -> tuple[str, int]:
    """Return the type of a pixel on disk, and how many lie back to front in one word."""
    if header.kind in PIXELS:
        return PIXELS[header.kind], 1
    if header.kind == "R64" and header.depth in _RAW_GROUP:
        dtype, group = _RAW_GROUP[header.depth]
        if header.shape[1] % group == 0 and header.shape[1] <= 256:
            return dtype, group
    what = f"pixels of type {header.kind}, {header.depth} bit, {header.shape}"
    raise bad(path, f"{what} are not read here", "export it as U08, U16 or U32")


def _scan_from_hdr(path: Path, frames: int) -> tuple[int, int] | None:
    """Return (lines, frames per line) when the header file counts several frames per trigger."""
    beside = path.with_suffix(".hdr")
    if not beside.is_file():
        return None
    text = beside.read_text(encoding="latin-1")
    match = re.search(r"Frames per Trigger \(Number\):\s*(\d+)", text)
    per_line = int(match[1]) if match else 0
    if per_line > 1 and frames % per_line == 0:
        return frames // per_line, per_line
    return None
