"""Fixtures for every test: nothing may leak, and real data are used when they are there."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("PROBEWISE_DATA", REPOSITORY.parent / "shared" / "data"))


def pytest_collection_finish() -> None:
    """Leave what imports have made out of garbage collections: each test ends with one."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Return a function that gives the path of a real data file, or skips naming it."""

    def find(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"real data file missing: {name} (set PROBEWISE_DATA to its folder)")
        return path

    return find


@pytest.fixture(scope="session")
def state_dirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give new folders, one after the other."""
    root = tmp_path_factory.mktemp("states")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def state_dir(state_dirs: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test its own place for leases and latches."""
    path = next(state_dirs)
    path.mkdir()
    monkeypatch.setenv("PROBEWISE_STATE_DIR", str(path))
    return path


@pytest.fixture(autouse=True)
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves an asyncio task running."""
    before = asyncio.all_tasks()
    yield
    mine = {asyncio.current_task()}
    left = {task for task in asyncio.all_tasks() - before - mine if not task.done()}
    assert not left, f"tasks left running: {sorted(task.get_name() for task in left)}"


_POOLS = ("asyncio_", "ThreadPoolExecutor", "pydev", "QueueFeeder", "tqdm")
"""Threads of pools that live as long as the interpreter."""


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread, a child process or an open file behind."""
    me = psutil.Process()
    threads = set(threading.enumerate())
    children = {child.pid for child in me.children(recursive=True)}
    files = {(file.path, file.fd) for file in me.open_files()}
    sockets = _sockets(me)
    yield
    gc.collect()
    gc.freeze()  # what outlives this test need not be looked through after each later one
    left = [t for t in threading.enumerate() if t not in threads and not t.name.startswith(_POOLS)]
    for thread in left:
        thread.join(timeout=5)
    left = [thread for thread in left if thread.is_alive()]
    assert not left, f"threads left running: {left}"
    born = [child for child in me.children(recursive=True) if child.pid not in children]
    assert not born, f"processes left running: {born}"
    opened = {(f.path, f.fd) for f in me.open_files()} - files
    opened = {entry for entry in opened if not entry[0].startswith(("/dev", "/proc"))}
    opened = {entry for entry in opened if not entry[0].endswith(".ttf")}  # matplotlib keeps fonts
    assert not opened, f"files left open: {opened}"
    assert _sockets(me) <= sockets, "sockets left open"


def _sockets(process: psutil.Process) -> set[tuple[int, str]]:
    """Return the open network sockets of a process."""
    return {(c.fd, str(c.laddr)) for c in process.net_connections(kind="inet")}
