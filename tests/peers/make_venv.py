"""Make the environments of the programs that run files are opened with.

Run it with any Python from 3.11 on: ``python tests/peers/make_venv.py``. Each environment lies at
the repository's root, is made once, and holds the versions of its
constraints file.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
ENVIRONMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    ".venv-peers": (
        "constraints.txt",
        ("hyperspy", "rosettasciio", "libertem", "hdf5plugin", "emdfile"),
    ),
    ".venv-peers-py4dstem": ("constraints-py4dstem.txt", ("py4DSTEM",)),
}


def make(name: str) -> None:
    """Make one environment, unless it is there and whole."""
    folder = REPOSITORY / name
    constraints, packages = ENVIRONMENTS[name]
    wanted = (HERE / constraints).read_text()
    stamp = folder / "made-from.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        print(f"{name} is there")
        return
    print(f"making {name} (several hundred MB)")
    stamp.unlink(missing_ok=True)
    if not (folder / "pyvenv.cfg").exists():
        venv.create(folder, with_pip=True, symlinks=sys.platform != "win32")
    bin_folder = "Scripts" if sys.platform == "win32" else "bin"
    python = folder / bin_folder / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(HERE / constraints)]
    subprocess.run([*install, *packages], check=True)
    stamp.write_text(wanted)


if __name__ == "__main__":
    for each in sys.argv[1:] or ENVIRONMENTS:
        make(each)
