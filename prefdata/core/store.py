"""The store: one DuckDB file. A connection lives for one call, inside the lock of `lock.py`; nobody holds it while computing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from prefdata.core import lock, schema
from prefdata.core.errors import PrefdataError, StoreError

DEFAULT = "prefdata.duckdb"
MEMORY = "2GB"
"""What DuckDB may take where PREFDATA_MEMORY does not say; most work takes far less, a quantile over 5M pairs 1.5 GB."""
_NOT_OURS = ("not a valid DuckDB", "magic bytes", "sqlite_scanner", "Unrecognized storage type")
_FULL = ("No space left", "File too large", "Disk quota", "could not write all bytes", "Could not write")


class Store:
    """A handle to one store file; cheap to make, holds nothing open.

    Args:
        path: the file. Default: the environment's PREFDATA_STORE, else ./prefdata.duckdb.
        create: whether a missing file is made at the first write.
    """

    def __init__(self, path: str | Path | None = None, *, create: bool = True) -> None:
        self.path = Path(path or os.environ.get("PREFDATA_STORE", DEFAULT))
        self._create = create
        self._checked = False

    @property
    def exists(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size > 0

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection under the shared lock; keep the block short."""
        self._ready()
        with lock.hold(self.path, exclusive=False), self._connect(read_only=True) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection in one transaction under the exclusive lock: all of the block is committed, or nothing."""
        self._ready(writing=True)
        with lock.hold(self.path, exclusive=True), self._connect(read_only=False) as connection:
            connection.begin()
            try:
                yield connection
                connection.commit()
            except BaseException:
                _rollback(connection)
                raise

    def frame(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), **frames: pl.DataFrame) -> pl.DataFrame:
        """The result of one SELECT; `frames` can be named in it as tables."""
        with self.read() as connection:
            for name, given in frames.items():
                connection.register(name, given)
            return connection.execute(sql, parameters).pl()

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        with self.read() as connection:
            return connection.execute(sql, parameters).fetchall()

    def value(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """The first column of the first row, or None."""
        found = self.rows(sql, parameters)
        return found[0][0] if found else None

    def append(self, table: str, frame: pl.DataFrame, *, unique: str = "id") -> int:
        """Add the rows whose `unique` column is not there yet; returns how many were new."""
        with self.write() as connection:
            return insert_new(connection, table, frame, unique=unique)

    def snapshot(self, target: Path) -> None:
        """A consistent copy for those who want their own shell; the copy is made while nobody has the file open."""
        if target.exists():
            raise StoreError(f"{str(target)!r} exists already; give a new file name.")
        self._ready()
        with lock.hold(self.path, exclusive=True):
            with self._connect(read_only=False) as connection:
                connection.execute("CHECKPOINT")
            part = target.with_name(target.name + ".part")
            with _plain_errors(target):
                try:
                    shutil.copyfile(self.path, part)
                    part.replace(target)
                except OSError:
                    part.unlink(missing_ok=True)
                    raise

    def _ready(self, *, writing: bool = False) -> None:
        """Once per handle: the file is there, is ours, and has every table this code knows."""
        if self._checked and self.exists:
            return
        if not self.exists:
            self._refuse_missing(writing)
        found: int | None = 0
        if self.exists:
            with lock.hold(self.path, exclusive=False), self._connect(read_only=True) as connection:
                found = schema.version(connection)
            schema.check(found, self.path)
        if found is not None and found < len(schema.MIGRATIONS):
            with lock.hold(self.path, exclusive=True), self._made_whole(), self._connect(read_only=False) as connection:
                found = schema.version(connection)
                schema.check(found, self.path)
                schema.migrate(connection, found or 0)
        self._checked = True

    @contextmanager
    def _made_whole(self) -> Iterator[None]:
        """A new file stays only with every table in it: a full disk must not leave a torso that nothing opens."""
        if self.exists:
            yield
            return
        if self.path.is_file() and not self.path.is_symlink():
            self.path.unlink()  # empty; DuckDB opens no such file
        try:
            yield
        except BaseException:
            for left in (self.path, Path(f"{self.path}.wal")):
                with suppress(OSError):
                    left.unlink(missing_ok=True)
            raise

    def _refuse_missing(self, writing: bool) -> None:
        if self.path.is_dir():
            raise StoreError(f"{str(self.path)!r} is a folder; give a file name with --store FILE.")
        if not writing or not self._create:
            raise StoreError(f"there is no store at {str(self.path)!r}; make one with  prefdata import FILE  or  prefdata run RECIPE.")

    @contextmanager
    def _connect(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        with _plain_errors(self.path):
            connection = duckdb.connect(str(self.path), read_only=read_only, config=_config())
            try:
                connection.execute("SET enable_progress_bar=false")
                yield connection
            except RuntimeError as error:
                if not isinstance(error.__cause__, KeyboardInterrupt):
                    raise
                connection.interrupt()  # a query may still run behind a Ctrl-C, and close() would wait for its end
                raise KeyboardInterrupt from None
            finally:
                connection.close()


def insert_new(connection: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame, *, unique: str = "id") -> int:
    """INSERT BY NAME of the rows of `frame` whose `unique` value is neither in the table nor earlier in the frame, in its order."""
    if frame.is_empty():
        return 0
    connection.register("incoming", frame.unique(unique, keep="first", maintain_order=True).with_row_index("nth_row"))
    try:
        result = connection.execute(
            f"INSERT INTO {table} BY NAME SELECT * EXCLUDE (nth_row) FROM incoming new "
            f"WHERE NOT EXISTS (SELECT 1 FROM {table} old WHERE old.{unique} = new.{unique}) ORDER BY nth_row"
        ).fetchone()
    finally:
        connection.unregister("incoming")
    return int(result[0]) if result else 0


def insert(connection: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> int:
    """INSERT BY NAME of all rows of `frame`."""
    if frame.is_empty():
        return 0
    connection.register("incoming", frame)
    try:
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
    finally:
        connection.unregister("incoming")
    return frame.height


def _config() -> dict[str, str | bool | int | float | list[str]]:
    return {
        "memory_limit": os.environ.get("PREFDATA_MEMORY", MEMORY),
        "autoinstall_known_extensions": False,  # a file of another kind must not make DuckDB reach for the network
        "autoload_known_extensions": False,
    }


def _rollback(connection: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # the failure that brought us here may have ended the transaction already
        connection.rollback()


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """DuckDB's and the system's words about files, as one sentence for a person."""
    try:
        yield
    except PrefdataError:
        raise
    except (duckdb.Error, OSError) as error:
        text = str(error)
        if isinstance(error, duckdb.OutOfMemoryException):
            limit = os.environ.get("PREFDATA_MEMORY", MEMORY)
            raise StoreError(
                f"this step needs more memory than the {limit} that DuckDB may take here: nothing of it was stored, everything "
                "before it is; set a larger one (PREFDATA_MEMORY=8GB) and run the same command again."
            ) from error
        if any(words in text for words in _FULL):
            raise StoreError(
                f"no space left to write {str(path)!r}: this batch was not stored, everything before it is; "
                "free some space and run the same command again."
            ) from error
        if any(words in text for words in _NOT_OURS):
            raise StoreError(f"{str(path)!r} is not a prefdata store; give another --store FILE.") from error
        if isinstance(error, FileNotFoundError):
            raise StoreError(f"the folder {str(path.parent)!r} does not exist or takes no files; give another place.") from error
        if isinstance(error, PermissionError) or "Permission denied" in text or "Read-only file system" in text:
            raise StoreError(f"no permission to write {str(path)!r}; give a writable place with --store FILE.") from error
        if "newer version of DuckDB" in text or "storage version" in text.lower():
            raise StoreError(f"{str(path)!r} was written by a newer DuckDB; upgrade with  pip install -U duckdb.") from error
        raise
