"""Where the files that travel with the code are: recipes, sample data and the app."""

from __future__ import annotations

from pathlib import Path

from prefdata.core.errors import PrefdataError

_PACKAGE = Path(__file__).resolve().parent.parent


def bundled(name: str) -> Path:
    """The folder `pipelines`, `sample_data` or `app`: inside an installed wheel, or beside the package in a checkout."""
    inside, beside = _PACKAGE / "_data" / name, _PACKAGE.parent / name
    if inside.is_dir():
        return inside
    # Beside an installed package stand strangers: another distribution may well own a folder called `app`.
    if beside.is_dir() and _PACKAGE.parent.name not in ("site-packages", "dist-packages"):
        return beside
    raise PrefdataError(
        f"this installation of prefdata came without its folder {name!r}; reinstall it with  pip install --force-reinstall prefdata."
    )
