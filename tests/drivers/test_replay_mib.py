"""Merlin files: byte order, row order, raw words, and what is wrong with a bad one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.errors import BadRecording
from drivers.replay.readers import open_recording
from drivers.replay.recording import Recording
from drivers.vocabulary import AnyArray
from tests.drivers.replay_files import mib_bytes

COUNTS = np.random.default_rng(4).integers(0, 60, (6, 4, 16))


def frames_of(recording: Recording) -> AnyArray:
    """Read every frame."""
    assert recording.frames is not None
    return recording.frames.take(np.arange(6))


@pytest.mark.parametrize(("kind", "dtype"), [("U08", ">u1"), ("U16", ">u2"), ("U32", ">u4")])
def test_pixels_in_wire_order(tmp_path: Path, kind: str, dtype: str) -> None:
    path = tmp_path / "a.mib"
    path.write_bytes(mib_bytes(COUNTS.astype(dtype), kind))
    recording = open_recording(path, scan_shape=(2, 3), pixel_nm=(1.0, 2.0))
    assert recording.scan_shape == (2, 3)
    assert np.array_equal(frames_of(recording), COUNTS)
    assert recording.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize(("depth", "dtype"), [(6, ">u1"), (12, ">u2")])
def test_raw_words_are_turned_round(tmp_path: Path, depth: int, dtype: str) -> None:
    """A raw frame is big-endian 64-bit words whose lowest bits are the first pixel."""
    bits = np.dtype(dtype).itemsize * 8
    words = np.zeros((6, 4, 16 * bits // 64), dtype=np.uint64)
    for column in range(16):
        word, place = divmod(column * bits, 64)
        words[..., word] |= COUNTS[..., column].astype(np.uint64) << np.uint64(place)
    raw = np.ascontiguousarray(words.astype(">u8")).view(dtype).reshape(COUNTS.shape)
    path = tmp_path / "raw.mib"
    path.write_bytes(mib_bytes(raw, "R64", depth))
    assert np.array_equal(frames_of(open_recording(path, scan_shape=(3, 2))), COUNTS)


@pytest.mark.parametrize("depth", [1, 24])
def test_other_raw_depths_are_refused(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "raw.mib"
    path.write_bytes(mib_bytes(COUNTS.astype(">u2"), "R64", depth))
    with pytest.raises(BadRecording, match=rf"{depth} bit.*U16"):
        open_recording(path, scan_shape=(2, 3))


@pytest.mark.parametrize(("per_line", "scan"), [(3, (2, 3)), (2, (3, 2)), (1, None), (4, None)])
def test_scan_shape_from_frames_per_trigger(
    tmp_path: Path, per_line: int, scan: tuple[int, int] | None
) -> None:
    path = tmp_path / "a.mib"
    path.write_bytes(mib_bytes(COUNTS.astype(">u2"), "U16"))
    header = (
        f"HDR,\t\nFrames in Acquisition (Number):\t6\nFrames per Trigger (Number):\t{per_line}\n"
    )
    path.with_suffix(".hdr").write_text(header)
    if scan is None:
        with pytest.raises(BadRecording, match="scan_shape"):
            open_recording(path)
    else:
        assert open_recording(path).scan_shape == scan


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mib"
    path.write_bytes(mib_bytes(COUNTS.astype(">u2"), "U16")[:-7])
    with pytest.raises(BadRecording, match="cut short"):
        open_recording(path, scan_shape=(2, 3))


def test_frames_out_of_step_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mib"
    content = bytearray(mib_bytes(COUNTS.astype(">u2"), "U16"))
    size = len(content) // 6
    content[5 * size : 5 * size + 3] = b"\0\0\0"
    path.write_bytes(content)
    with pytest.raises(BadRecording, match="MQ1"):
        open_recording(path, scan_shape=(2, 3))


@pytest.mark.parametrize("text", ["MQ1,1,xyz,1,16,4,U16,", "MQ1,1,384,1,0,4,U16,", "MQ1,1"])
def test_headers_that_make_no_sense(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.mib"
    path.write_bytes(text.encode().ljust(384, b"\0"))
    with pytest.raises(BadRecording, match=r"a\.mib.*header"):
        open_recording(path, scan_shape=(2, 3))
