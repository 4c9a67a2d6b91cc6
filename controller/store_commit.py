"""A file that HDF5 writes to and that changes on disk only by whole commits.

HDF5 updates its tables in place, so a process killed in the middle of a flush leaves a file in
which even old frames can't be found. Here what HDF5 writes over is held back in memory, page by
page, while new space at the end, which nothing refers to yet, is written at once. A commit writes
the held pages to a side file first and then in place: a commit that was cut short is either
completed from the side file or never happened.
"""

from __future__ import annotations

import struct
import zlib
from io import FileIO
from pathlib import Path

_PAGE = 4096
_HEAD = struct.Struct("<8sQI")
_MAGIC = b"PWCOMMIT"


def side_file(path: Path) -> Path:
    """Return where the pages of an unfinished commit are."""
    return path.with_name(path.name + ".commit")


def complete(path: Path) -> None:
    """Complete the commit of a writer that was killed, if there is a whole one.

    Only to be called when no writer is alive. Harmless when there is nothing to do.
    """
    side = side_file(path)
    if not side.exists():
        return
    raw = side.read_bytes()
    pages = _unpack(raw)
    if pages is not None:
        with path.open("r+b", buffering=0) as file:
            _apply(file, pages)
    side.unlink()


def used_length(path: Path) -> int:
    """Return how much of a file HDF5 uses, in bytes.

    HDF5 states it in its superblock (version 0: 8 bytes at 40); without one, all is used.
    """
    with path.open("rb") as file:
        head = file.read(48)
    if head[:9] == b"\x89HDF\r\n\x1a\n\x00":
        return int.from_bytes(head[40:48], "little")
    return path.stat().st_size


def _pack(pages: dict[int, bytearray]) -> bytes:
    body = b"".join(struct.pack("<Q", number) + bytes(page) for number, page in pages.items())
    return _HEAD.pack(_MAGIC, len(body), zlib.crc32(body)) + body


def _unpack(raw: bytes) -> dict[int, bytearray] | None:
    """Return the pages of a side file, None when it was cut short."""
    if len(raw) < _HEAD.size:
        return None
    magic, length, checksum = _HEAD.unpack_from(raw)
    body = raw[_HEAD.size :]
    if magic != _MAGIC or len(body) != length or zlib.crc32(body) != checksum:
        return None
    step = 8 + _PAGE
    return {
        struct.unpack_from("<Q", body, at)[0]: bytearray(body[at + 8 : at + step])
        for at in range(0, length, step)
    }


def _apply(file: FileIO, pages: dict[int, bytearray]) -> None:
    for number, page in pages.items():
        _write_at(file, bytes(page), number * _PAGE)


def _write_at(file: FileIO, data: bytes, at: int) -> None:
    file.seek(at)
    while data:
        data = data[file.write(data) :]


def _read_at(file: FileIO, size: int, at: int) -> bytes:
    """Return up to ``size`` bytes, fewer at the end of the file."""
    file.seek(at)
    found = b""
    while len(found) < size and (more := file.read(size - len(found))):
        found += more
    return found


class CommittedFile:
    """The file object HDF5 reads and writes through; `commit` makes its changes lasting.

    Parameters
    ----------
    path : Path
        Created when missing. No other writer may be alive.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            complete(path)
        else:
            path.touch()
        self._path = path
        self._file = path.open("r+b", buffering=0)
        self._end = used_length(path)
        self._position = 0
        self._held: dict[int, bytearray] = {}
        self._fresh = self._boundary()
        """From this offset on nothing on disk is referred to by a commit."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written to it so far."""
        return self._end == 0

    def commit(self) -> None:
        """Make all changes so far lasting.

        Raises
        ------
        OSError
            If the pages can't be written aside; the file is then as it was before.
        """
        if self._held:
            side = side_file(self._path)
            try:
                side.write_bytes(_pack(self._held))
            except OSError:
                side.unlink(missing_ok=True)
                raise
            _apply(self._file, self._held)
            side.unlink()
        self._held.clear()
        self._fresh = self._boundary()

    def close(self) -> None:
        """Forget what was not committed and close the file."""
        self._file.close()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position, as for any file."""
        start = (0, self._position, self._end)[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read at the position, to the end by default."""
        wanted = self._end - self._position if size < 0 else size
        buffer = bytearray(max(0, wanted))
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, buffer: memoryview) -> int:
        """Read at the position what was written last, committed or not."""
        view = memoryview(buffer).cast("B")
        n = max(0, min(len(view), self._end - self._position))
        found = _read_at(self._file, n, self._position)
        view[: len(found)] = found
        view[len(found) : n] = bytes(n - len(found))
        for number, low, high in self._pages(self._position, n):
            if number in self._held:
                at = number * _PAGE + low - self._position
                view[at : at + high - low] = self._held[number][low:high]
        self._position += n
        return n

    def write(self, data: bytes | memoryview) -> int:
        """Write at the position: held back below the fresh end, at once above it."""
        view = memoryview(data).cast("B")
        below = max(0, min(len(view), self._fresh - self._position))
        for number, low, high in self._pages(self._position, below):
            at = number * _PAGE + low - self._position
            self._page(number)[low:high] = view[at : at + high - low]
        if below < len(view):
            _write_at(self._file, bytes(view[below:]), self._position + below)
        self._position += len(view)
        self._end = max(self._end, self._position)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length HDF5 sees; space on disk is given back when the file is closed."""
        self._end = self._position if size is None else size
        return self._end

    def flush(self) -> None:
        """Do nothing: only `commit` makes changes lasting."""

    def _boundary(self) -> int:
        return -(-self._end // _PAGE) * _PAGE

    def _page(self, number: int) -> bytearray:
        if number not in self._held:
            page = _read_at(self._file, _PAGE, number * _PAGE)
            self._held[number] = bytearray(page.ljust(_PAGE, b"\0"))
        return self._held[number]

    def _pages(self, at: int, n: int) -> list[tuple[int, int, int]]:
        """Return page number, first and last byte within it, of each page a range touches."""
        if n <= 0:
            return []
        return [
            (number, max(at - number * _PAGE, 0), min(at + n - number * _PAGE, _PAGE))
            for number in range(at // _PAGE, (at + n - 1) // _PAGE + 1)
        ]
