"""The run file survives killed controllers and full disks, and can be continued."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from fake_run import HAADF, FakeRun, config, data_of, sub_scan

from controller import events as e
from controller.journal import read
from controller.rundir import RunFolder, open_folder
from controller.state import fold
from controller.store import RunStore, StoreError, iterate_stored, list_stored, reconcile
from controller.store_commit import side_file

HERE = Path(__file__).resolve().parent
PRELUDE = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent.parent)!r}]
from pathlib import Path
from fake_run import FakeRun, data_of, sub_scan
from controller.store import StoreError
run = FakeRun(Path(sys.argv[1]), name="run")
"""
KILLED = """
n = int(sys.argv[2])
for number in range(2, n + 2):
    run.store.write(data_of(sub_scan(number, (0.0, 0.0))), "measure")
print("flushed", flush=True)
from controller.store_layout import append_row
entry = run.store._entry["subscans_haadf"]
while True:  # unfinished work, never flushed
    for name in ("data", "order", "step"):
        entry[name].resize(len(entry[name]) + 1, axis=0)
        entry[name][-1] = 1
"""
FULL = """
import resource
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
stored, error = 0, ""
try:
    for number in range(2, 3000):
        run.store.write(data_of(sub_scan(number, (0.0, 0.0))), "measure")
        stored += 1
except StoreError as refused:
    error = str(refused)
run.store.close()
run.journal.close()
import json
print(json.dumps({"stored": stored, "error": error}))
"""


def values(folder: RunFolder) -> list[int]:
    """Return the number that each stored sub-scan carries in its first pixel, checked."""
    out = []
    for stored, data in iterate_stored(folder):
        number = int(data.frames["haadf"][0, 0, 0])
        assert stored.sub_scan.id == f"s{number:06d}"
        assert data.frames["haadf"].min() > 0
        out.append(number)
    return out


@pytest.mark.parametrize("n", [1, 7])
def test_what_was_flushed_survives_kill_9(tmp_path: Path, n: int) -> None:
    command = [sys.executable, "-c", PRELUDE + KILLED, str(tmp_path), str(n)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "flushed\n"
        process.kill()
        assert process.wait(20) == -signal.SIGKILL
    folder = open_folder(tmp_path / "run")
    with h5py.File(folder.data_part, "r") as file:  # as any program would open it
        assert list(file["entry/subscans_haadf/sub_scan_id"].asstr()[:n])[-1] == f"s{n + 1:06d}"
    assert values(folder)[:n] == list(range(2, n + 2))
    store = RunStore(folder, folder.config(), {"haadf": HAADF})
    store.write(data_of(sub_scan(500, (0.0, 0.0))), "measure")
    store.close(finished=True)
    assert values(folder) == [*range(2, n + 2), 500]


def test_a_full_disk_stops_the_run_and_spoils_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PRELUDE + FULL, str(tmp_path), "4400000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "Free some space on the disk, then resume" in told["error"]
    assert told["stored"] > 10
    folder = open_folder(tmp_path / "run")
    assert len(values(folder)) == told["stored"]
    store = RunStore(folder, folder.config(), {"haadf": HAADF})  # space again
    store.write(data_of(sub_scan(5000, (0.0, 0.0))), "measure")
    store.close()
    assert len(values(folder)) == told["stored"] + 1


def test_a_failed_write_names_the_file_and_stops_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeRun(tmp_path) as run:
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")

        def broken(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("controller.store.append_row", broken)
        with pytest.raises(StoreError, match=r"run\.nxs\.part can't be extended.*what was stored"):
            run.store.write(data_of(sub_scan(3, (0.0, 0.0))), "measure")
        monkeypatch.undo()
        with pytest.raises(StoreError, match="failed before"):
            run.store.write(data_of(sub_scan(3, (0.0, 0.0))), "measure")
        run.finished = True
    assert values(run.folder) == [2]
    assert run.folder.data_part.exists(), "a file that failed is not called finished"


def test_a_run_is_continued_where_it_was(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.survey()
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
    store = RunStore(run.folder, run.config, {"haadf": HAADF})
    at = store.write(data_of(sub_scan(3, (0.0, 0.0))), "measure")
    assert at.indices == {"haadf": 1}
    with pytest.raises(StoreError, match="stored already"):
        store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
    store.close(finished=True)
    assert [each.sub_scan.id for each in list_stored(run.folder)] == [
        *("s000001", "s000002", "s000003")
    ]


def test_a_finished_file_is_part_again_while_it_is_continued(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
        run.finished = True
    assert run.folder.data.exists() and not run.folder.data_part.exists()
    store = RunStore(run.folder, run.config, {"haadf": HAADF})
    assert run.folder.data_part.exists() and not run.folder.data.exists()
    store.write(data_of(sub_scan(3, (0.0, 0.0))), "measure")
    store.close(finished=True)
    store.close(finished=True)
    assert values(run.folder) == [2, 3]
    with h5py.File(run.folder.data) as file:
        start, end = (file["entry"][name].asstr()[()] for name in ("start_time", "end_time"))
        assert start <= end


def test_space_reserved_ahead_is_given_back(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
        run.finished = True
    assert run.folder.data.stat().st_size < 400_000
    assert values(run.folder) == [2]


def test_two_run_files_are_a_question_for_a_person(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.finished = True
    run.folder.data_part.write_bytes(b"")
    with pytest.raises(StoreError, match=r"both run\.nxs and run\.nxs\.part"):
        RunStore(run.folder, run.config, {"haadf": HAADF})
    assert run.folder.data.exists()


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.finished = True
    run.folder.data.write_bytes(b"not HDF5")
    with pytest.raises(StoreError, match=r"run\.nxs can't be read"):
        list_stored(run.folder)
    with pytest.raises(StoreError, match=r"run\.nxs\.part can't be opened"):
        RunStore(run.folder, run.config, {"haadf": HAADF})


def test_writing_to_a_closed_file_is_an_error(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.store.close()
        with pytest.raises(StoreError, match="is closed"):
            run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")


def test_a_row_written_in_part_is_cut_off(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        for number in (2, 3):
            run.store.write(data_of(sub_scan(number, (0.0, 0.0))), "measure")
    with h5py.File(run.folder.data_part, "a") as file:
        group = file["entry/subscans_haadf"]
        for name in ("data", "step", "order", "sub_scan_id"):
            group[name].resize(3, axis=0)
    assert values(run.folder) == [2, 3]
    store = RunStore(run.folder, run.config, {"haadf": HAADF})
    assert store.write(data_of(sub_scan(4, (0.0, 0.0))), "measure").indices == {"haadf": 2}
    store.close()
    assert values(run.folder) == [2, 3, 4]


def test_plain_readers_open_the_file_while_it_is_written(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
        code = (
            "import sys, h5py, hdf5plugin\n"
            "with h5py.File(sys.argv[1], 'r') as f: print(f['entry/subscans_haadf/data'][0, 0, 0])"
        )
        command = [sys.executable, "-c", code, str(run.folder.data_part)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == "2"
        assert values(run.folder) == [2]  # and in the same process


def test_reconcile_names_what_the_journal_does_not_know(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.survey()
        run.measure(sub_scan(2, (0.0, 0.0)))
        run.expose(sub_scan(3, (5.0, 0.0)), "measure")
        run.store.write(data_of(sub_scan(3, (5.0, 0.0))), "measure")
    entries, _ = read(run.folder.journal)
    assert reconcile(run.folder, fold(entries)) == ["s000003"]


def test_reconcile_refuses_a_file_that_lost_data(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.measure(sub_scan(2, (0.0, 0.0)))
        run.expose(sub_scan(3, (5.0, 0.0)), "measure")
        where = {"haadf": "/entry/subscans_haadf/data"}
        run.log(e.Stored(id="s000003", datasets=where, indices={"haadf": 1}, nbytes=0))
    entries, _ = read(run.folder.journal)
    with pytest.raises(StoreError, match="s000003 are stored, but"):
        reconcile(run.folder, fold(entries))


def test_reconcile_of_a_run_that_stored_nothing(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        pass
    entries, _ = read(run.folder.journal)
    assert reconcile(run.folder, fold(entries)) == []


def test_metadata_is_not_changed_by_reopening(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
    with h5py.File(run.folder.data_part) as file:
        before = file["entry/start_time"].asstr()[()]
    RunStore(run.folder, config(camera=True), {"haadf": HAADF}).close()
    with h5py.File(run.folder.data_part) as file:
        assert file["entry/start_time"].asstr()[()] == before
        assert np.array_equal(file["entry/subscans_haadf/step"], [0])


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        with pytest.raises(StoreError, match="is being written by another controller"):
            RunStore(run.folder, run.config, {"haadf": HAADF})
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
    assert values(run.folder) == [2]


def test_a_store_may_be_closed_by_another_thread(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        thread = threading.Thread(target=run.store.close)
        thread.start()
        thread.join()
        RunStore(run.folder, run.config, {"haadf": HAADF}).close()


def test_a_commit_that_does_not_get_on_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.store_read._COMMIT_S", 0.05)
    with FakeRun(tmp_path) as run:
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
        unfinished = side_file(run.folder.data_part)
        unfinished.write_bytes(b"")
        with pytest.raises(StoreError, match="does not get on"):
            list_stored(run.folder)
        unfinished.unlink()
        assert values(run.folder) == [2]
