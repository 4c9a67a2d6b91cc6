"""A commit is whole or never happened, wherever the writer was killed."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

import pytest
from fake_run import FakeRun, data_of, description_of, sub_scan
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import store_commit
from controller.rundir import RunFolder
from controller.store import iterate_stored
from controller.store_commit import CommittedFile, complete, side_file, used_length

WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 20_000), st.binary(min_size=1, max_size=6000)),
        st.tuples(st.just("commit"), st.just(0), st.just(b"")),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(operations=WRITES)
def test_it_reads_like_a_file_and_keeps_what_was_committed(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("file") / "f"
    file = CommittedFile(path)
    model, committed = bytearray(), b""
    for kind, at, data in operations:
        if kind == "commit":
            file.commit()
            committed = bytes(model)
        else:
            model.extend(bytes(max(0, at + len(data) - len(model))))
            model[at : at + len(data)] = data
            file.seek(at)
            assert file.write(data) == len(data)
            assert file.tell() == at + len(data)
        file.seek(0)
        assert file.read() == bytes(model)
    file.close()  # as a killed process would: nothing more is written
    on_disk = path.read_bytes()
    assert on_disk.ljust(len(committed), b"\0")[: len(committed)] == committed


Operation = tuple[str, int, bytes]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Operation]:
    """Return what is done to the disk, in order."""
    done: list[Operation] = []
    write_at, pack = store_commit._write_at, store_commit._pack

    def logged_write(file: FileIO, data: bytes, at: int) -> None:
        done.append(("write", at, data))
        write_at(file, data, at)

    def logged_pack(pages: dict[int, bytearray]) -> bytes:
        raw = pack(pages)
        done.append(("side", len(pages), raw))
        return raw

    monkeypatch.setattr(store_commit, "_write_at", logged_write)
    monkeypatch.setattr(store_commit, "_pack", logged_pack)
    return done


def test_a_kill_at_any_moment_loses_no_stored_sub_scan(
    tmp_path: Path, log: list[Operation]
) -> None:
    """Every prefix of what was done to the disk is a state a kill may leave."""
    marks: list[tuple[int, int]] = []
    with FakeRun(tmp_path, camera=True, shape=(2, 3)) as run:
        opened = len(log)
        for number in range(2, 7):
            scan = sub_scan(number, (0.0, 0.0), shape=(2, 3))
            run.store.write(data_of(scan, camera=True), "measure")
            marks.append((len(log), number))
            run.store.write_description(scan.id, description_of(scan, 1.0))
    folder = RunFolder(run.folder.path)
    disk = bytearray()
    side, left = b"", 0
    for done, (kind, at, data) in enumerate(list(log), start=1):
        if kind == "side":
            cut = [data[: len(data) // 2], data] if done > opened else []
            side, left = data, at
        else:
            disk.extend(bytes(max(0, at + len(data) - len(disk))))
            disk[at : at + len(data)] = data
            left -= bool(side)
            cut = [side]
        if done < opened:
            continue
        stored = max((number for count, number in marks if count <= done), default=1)
        for raw in cut:
            killed(folder, bytes(disk), raw, stored)
        if left == 0:
            side = b""
            killed(folder, bytes(disk), side, stored)


def killed(folder: RunFolder, disk: bytes, side: bytes, stored: int) -> None:
    """Check that all sub-scans up to ``stored`` are there, and none in part."""
    folder.data_part.write_bytes(disk + bytes(8192))
    if side:
        side_file(folder.data_part).write_bytes(side)
    found = []
    for each, data in iterate_stored(folder):
        number = int(each.sub_scan.id[1:])
        assert set(data.frames) == {"haadf", "camera"}
        assert data.frames["haadf"][0, 0, 0] == number
        assert data.frames["camera"][0, 0, 0] == number
        found.append(number)
    assert found in (list(range(2, stored + 1)), list(range(2, stored + 2)))
    assert not side_file(folder.data_part).exists()


def test_a_commit_that_can_not_be_written_aside_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    file = CommittedFile(path)
    file.write(b"a" * 5000)
    file.commit()
    before = path.read_bytes()
    file.seek(0)
    file.write(b"b" * 100)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        file.commit()
    file.close()
    assert path.read_bytes() == before


def test_a_side_file_cut_short_or_foreign_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 5000)
    for raw in (b"", b"short", b"PWCOMMIT" + bytes(12) + b"more"):
        side_file(path).write_bytes(raw)
        complete(path)
        assert path.read_bytes() == b"x" * 5000
        assert not side_file(path).exists()


def test_the_used_length_of_other_files_is_their_size(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"plain")
    assert used_length(path) == 5


def test_what_is_cut_off_reads_as_nothing(tmp_path: Path) -> None:
    file = CommittedFile(tmp_path / "f")
    file.write(b"abcdef")
    assert file.truncate(3) == 3
    assert file.seek(0, 2) == 3
    file.seek(1)
    assert file.read() == b"bc"
    file.close()
    file.close()
