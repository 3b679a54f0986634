"""`prefdata doctor`: what this machine has, and what about the store needs attention."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from prefdata.cli.options import AsJson, StoreFile
from prefdata.cli.show import Screen, size
from prefdata.core.errors import PrefdataError

EXTRAS = {
    "train": ("torch", "transformers", "sentence_transformers", "peft", "accelerate"),
    "app": ("streamlit", "altair"),
    "ray": ("ray",),
}
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs", "fuse.sshfs",
           "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.goofys", "virtiofs", "davfs")  # fmt: skip
"""File systems on which `flock` or DuckDB's writes may not hold what they promise."""
LOW_DISK = 2 << 30


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    what: str
    state: Literal["ok", "warn", "bad", "info"]
    text: str


def doctor(store: StoreFile = None, json: AsJson = False) -> None:
    """Check this machine and the store.

    Versions, the store, its lock and file system, extras, disk, GPU and keys; exit code 1 where something is broken.

    Example:  prefdata doctor --store prefdata.duckdb
    """
    from prefdata.core.store import Store

    screen = Screen(json)
    opened = Store(store)
    checks = [*_versions(), *_store(opened.path), *_file_system(opened.path), *_extras(), _gpu(), *_keys()]
    broken = any(check.state == "bad" for check in checks)
    if json:
        screen.data({"ok": not broken, "checks": [asdict(check) for check in checks]})
    else:
        colours = {"ok": "green", "warn": "yellow", "bad": "red", "info": "dim"}
        wide = max(len(check.what) for check in checks)
        for check in checks:
            screen.line(f"{check.state:<4}  {check.what:<{wide}}  {check.text}", colours[check.state])
        after = "mend what is bad, and  prefdata doctor  again" if broken else "prefdata status" if opened.exists else "prefdata init demo"
        screen.next(after)
    if broken:
        raise typer.Exit(1)


def _versions() -> Iterator[Check]:
    from prefdata import __version__

    yield Check("prefdata", "info", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    yield duckdb_advice(importlib.metadata.version("duckdb"))
    yield Check("polars", "info", importlib.metadata.version("polars"))


def duckdb_advice(version: str) -> Check:
    """1.5.5 is what this was measured with; 2.0.0 loses rows to writers who do not take the store's lock."""
    if version == "1.5.5":
        return Check("duckdb", "ok", "1.5.5")
    if version.startswith("2.0.0"):
        lost = f"{version} loses committed rows where a writer does not take the store's lock"
        return Check("duckdb", "warn", f"{lost}; write with prefdata only, or  pip install duckdb==1.5.5")
    return Check("duckdb", "warn", f"{version}; recommended: pip install duckdb==1.5.5")


def _store(path: Path) -> Iterator[Check]:
    from prefdata.core import lock, schema
    from prefdata.core.store import Store

    store = Store(path)
    if not store.exists:
        yield Check("store", "info", f"none at {path} yet; the first import or run makes it")
        return
    try:
        started = time.monotonic()
        with lock.hold(path, exclusive=True, wait=5.0):
            waited = time.monotonic() - started
        with store.read() as db:
            found = schema.version(db)
    except PrefdataError as error:
        yield Check("store", "bad", str(error))
        return
    yield Check("store", "ok", f"{path}, version {found} of {len(schema.MIGRATIONS)}, {size(path.stat().st_size)}")
    yield Check("lock", "ok", f"free after {waited * 1000:.0f} ms")
    log = Path(f"{path}.wal")
    if log.exists():
        yield Check(
            "log", "info", f"{log}, {size(log.stat().st_size)}: a writer was cut off; the next one replays it, so keep both files together"
        )


def _file_system(path: Path) -> Iterator[Check]:
    folder = path.resolve().parent
    while not folder.exists():
        folder = folder.parent
    kind, mount = file_system(folder, _mounts())
    if kind in NETWORK:
        yield Check(
            "file system",
            "warn",
            f"{kind} at {mount}: locks may not hold between machines; keep the store on a local disk and copy it with  prefdata snapshot",
        )
    else:
        yield Check("file system", "ok", f"{kind or 'unknown'} at {mount or folder}")
    free = shutil.disk_usage(folder).free
    yield Check("disk", "warn" if free < LOW_DISK else "ok", f"{size(free)} free at {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Check("folder", "bad", f"{folder} cannot be written to ({error.strerror}); give another place with --store FILE")


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def file_system(folder: Path, mounts: str) -> tuple[str, str]:
    """Type and mount point of the file system a folder lies on, by the lines of /proc/mounts; empty where unknown."""
    best = ("", "")
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = fields[1].replace("\\040", " ")
        if folder.is_relative_to(mount) and len(mount) >= len(best[1]):
            best = (fields[2], mount)
    return best


def _extras() -> Iterator[Check]:
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            yield Check(f"extra {extra}", "info", f"without {', '.join(missing)}; to have it:  pip install 'prefdata[{extra}]'")
        else:
            yield Check(f"extra {extra}", "ok", ", ".join(_with_version(name) for name in modules))


def _with_version(module: str) -> str:
    try:
        return f"{module} {importlib.metadata.version(module.replace('_', '-'))}"
    except importlib.metadata.PackageNotFoundError:
        return module


def _gpu() -> Check:
    """What the driver names; nothing is imported and nothing on the device is touched."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check("gpu", "info", "none found; training runs on the CPU")
    try:
        asked = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        names = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip().splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        return Check("gpu", "warn", f"nvidia-smi does not answer ({type(error).__name__})")
    return Check("gpu", "ok", "; ".join(names)) if names else Check("gpu", "info", "none found; training runs on the CPU")


def _keys() -> Iterator[Check]:
    """Names only: a secret is never shown."""
    names = sorted(n for n in os.environ if n.endswith("_API_KEY") or n in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"))
    yield Check(
        "keys", "info", ", ".join(names) if names else "none in the environment (OPENAI_API_KEY for paid models, HF_TOKEN for push)"
    )
