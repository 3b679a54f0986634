"""`prefdata init`: the example recipes and the sample data, copied to where the user works."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from prefdata.cli.options import AsJson
from prefdata.cli.show import Screen

FOLDERS = ("pipelines", "sample_data")
_SKIPPED = ("__pycache__", ".part")


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to put them.")] = Path(),
    json: AsJson = False,
) -> None:
    """Copy the example recipes and the sample data here.

    Nothing that exists is overwritten.

    Example:  prefdata init demo
    """
    from prefdata.core.places import bundled

    screen = Screen(json)
    made: list[str] = []
    kept: list[str] = []
    for name in FOLDERS:
        for source in _files(bundled(name)):
            target = folder / name / source.relative_to(bundled(name))
            (made if _copy(source, target) else kept).append(str(target))
    if json:
        screen.data({"folder": str(folder), "made": made, "kept": kept})
        return
    for name in FOLDERS:
        new = sum(Path(path).is_relative_to(folder / name) for path in made)
        old = sum(Path(path).is_relative_to(folder / name) for path in kept)
        screen.line(f"{folder / name}: files made: {new}" + (f"; there before, and left as they are: {old}" if old else ""))
    go = "" if folder == Path() else f"cd {folder} && "
    recipes = sorted((p.name for p in (folder / "pipelines").glob("*.yaml")), key=lambda name: (name != "demo.yaml", name))
    screen.next(f"{go}prefdata run pipelines/{recipes[0]}" if recipes else f"{go}prefdata import sample_data/candidates.jsonl")


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") or part.endswith(_SKIPPED) for part in path.relative_to(folder).parts):
            yield path


def _copy(source: Path, target: Path) -> bool:
    """Whether a file was made; it appears whole or not at all."""
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        shutil.copyfile(source, part)
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP) or not part.exists():
            raise
        part.replace(target)  # a file system without hard links
    finally:
        part.unlink(missing_ok=True)
    return True
