"""The experiment: what happens, in what order, safely."""

from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def _check_house() -> None:
    """Refuse to start when a folder of the same name shadows one of our packages.

    Raises
    ------
    ImportError
        If ``drivers``, ``models`` or ``sim`` would be imported from elsewhere.
    """
    for name in ("drivers", "models", "sim"):
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin.parent.parent != _ROOT:
            found = origin or "nowhere"
            raise ImportError(
                f"probewise needs its package '{name}' from {_ROOT}, but Python finds it at "
                f"{found}. A folder named '{name}' in the current directory or on PYTHONPATH "
                "hides it: change directory, or set PYTHONSAFEPATH=1."
            )


_check_house()
