"""Disk space for the run file: made sure of before HDF5 is touched, given back at the end.

What HDF5 could not write for want of space would otherwise be found out in the middle of a change.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from controller.store_commit import used_length


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
    """Give back the space a closed file does not use, and get it to disk."""
    with path.open("r+b") as file:
        file.truncate(used_length(path))
        os.fsync(file.fileno())
