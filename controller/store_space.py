"""Disk space for the run file: made sure of before HDF5 is touched, given back at the end.

HDF5 leaves a damaged file behind when a write fails for want of space.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path


def reserve(path: Path, size: int) -> None:
    """Make sure that the disk holds the first ``size`` bytes of a file.

    Where the system can't allocate ahead, the free space is compared instead.

    Raises
    ------
    OSError
        If there is not enough space.
    """
    allocate = getattr(os, "posix_fallocate", None)
    if allocate is not None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            allocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        else:
            return
        finally:
            os.close(descriptor)
    if shutil.disk_usage(path.parent).free < size - path.stat().st_size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def settle(path: Path) -> None:
    """Give back the space a closed file does not use, and get it to disk.

    HDF5 states the length it uses in its superblock (version 0: 8 bytes at 40).
    """
    with path.open("r+b") as file:
        head = file.read(48)
        if head[:9] == b"\x89HDF\r\n\x1a\n\x00":
            file.truncate(int.from_bytes(head[40:48], "little"))
        os.fsync(file.fileno())
