"""A run's folder is made once and never overwritten, and holds plain data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from controller.rundir import RunFolder, RunFolderError, create, manifest_sha256, open_folder
from tests.controller.fake_run import config


def test_a_new_folder_says_what_the_run_is_made_of(tmp_path: Path) -> None:
    folder = create(config(), tmp_path / "runs" / "deep")
    manifest = folder.read_manifest()
    assert folder.path.name.endswith("Z-fake")
    assert manifest["run_id"] == folder.path.name
    assert manifest["seeds"] == {"experiment": 0}
    assert "virtual" in manifest["drivers"]["virtual"]["module"]
    assert manifest["versions"]["numpy"] == np.__version__
    assert open_folder(folder.path).config() == config()
    assert folder.checkpoints.is_dir()
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoints", "manifest.json"]


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    folder = create(config(), tmp_path, name="run")
    before = manifest_sha256(folder)
    assert before == hashlib.sha256(folder.manifest.read_bytes()).hexdigest()
    folder.manifest.write_text(folder.manifest.read_text() + " ")
    assert manifest_sha256(folder) != before


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    folder = create(config(), tmp_path, name="run")
    before = folder.manifest.read_bytes()
    with pytest.raises(RunFolderError, match=r"run exists already.*probewise resume"):
        create(config(), tmp_path, name="run")
    assert folder.manifest.read_bytes() == before


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="can't be made"):
        create(config(), tmp_path / "file" / "runs", name="run")


@pytest.mark.parametrize("manifest", [None, "", "{", "[]", "{}", "7"])
def test_what_is_no_run_folder_is_refused_by_name(tmp_path: Path, manifest: str | None) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(RunFolderError, match=str(tmp_path)):
        open_folder(tmp_path)


def test_arrays_come_back_as_they_were_saved(tmp_path: Path) -> None:
    folder = create(config(), tmp_path, name="run")
    arrays = {
        "mean": np.arange(6.0).reshape(2, 3),
        "counts": np.array([[1, 2]], np.uint16),
        "names": np.array(["a", "å"]),
        "nothing": np.zeros((0, 3), np.float32),
    }
    relative, digest = folder.save_arrays("encoder-0001", arrays)
    assert relative == "checkpoints/encoder-0001.npz"
    assert digest == hashlib.sha256((folder.path / relative).read_bytes()).hexdigest()
    loaded = folder.load_arrays(relative)
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_saving_again_replaces_whole_files(tmp_path: Path) -> None:
    folder = create(config(), tmp_path, name="run")
    for value in (1, 2):
        relative, _ = folder.save_arrays("maps", {"x": np.full(3, value)})
    np.testing.assert_array_equal(folder.load_arrays(relative)["x"], [2, 2, 2])
    assert [path.name for path in folder.checkpoints.iterdir()] == ["maps.npz"]


def test_python_objects_are_neither_saved_nor_loaded(tmp_path: Path) -> None:
    folder = create(config(), tmp_path, name="run")
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="array 'x' of maps holds Python objects"):
        folder.save_arrays("maps", {"x": objects})
    assert list(folder.checkpoints.iterdir()) == []
    np.savez(folder.checkpoints / "foreign.npz", x=objects)
    with pytest.raises(ValueError, match="allow_pickle"):
        folder.load_arrays("checkpoints/foreign.npz")


def test_every_path_is_inside_the_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    paths = [
        folder.manifest,
        folder.journal,
        folder.data,
        folder.data_part,
        folder.checkpoints,
        folder.report,
        folder.guardian,
    ]
    assert len(set(paths)) == len(paths)
    assert all(path.parent == tmp_path for path in paths)


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    folder = create(config(), tmp_path, name="run")

    def refuse(value: str) -> None:
        raise AssertionError(f"{value} is no JSON")

    json.loads(folder.manifest.read_text(), parse_constant=refuse)
