"""Running a recipe: every step asks the store what is missing, computes that, and writes results with their state."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from prefdata.core import catalogue
from prefdata.core.columns import Keys
from prefdata.core.errors import BadValue, PrefdataError, Stopped, UnknownName
from prefdata.core.ids import canonical_json
from prefdata.core.method import Method, Wanted
from prefdata.core.planning import check_calls
from prefdata.core.protocols import USES
from prefdata.core.recipe import Recipe, Step
from prefdata.core.store import Store


@dataclass
class StepReport:
    """What one step did; `had` rows were there before."""

    step: str
    key: str = ""
    rows_in: int = 0
    had: int = 0
    done: int = 0
    abstained: int = 0
    failed: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    calls: int | None = None
    """Calls expected (a plan) or None where the step asks no model."""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        return max(0, self.rows_in - self.had)


@dataclass
class Report:
    """What a run did."""

    run_id: str
    steps: list[StepReport] = field(default_factory=list)
    planned: bool = False
    state: str = "done"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Progress(Protocol):
    """Where a run tells how far it is; the CLI draws it."""

    def start(self, step: str, total: int) -> None: ...
    def advance(self, done: int = 0, abstained: int = 0, failed: int = 0, cost: float = 0.0) -> None: ...
    def finish(self, report: StepReport) -> None: ...


class Quiet:
    """A Progress that says nothing."""

    def start(self, step: str, total: int) -> None: ...
    def advance(self, done: int = 0, abstained: int = 0, failed: int = 0, cost: float = 0.0) -> None: ...
    def finish(self, report: StepReport) -> None: ...


class Models(Protocol):
    """The models of a recipe, as `prefdata.models.providers.Providers` gives them."""

    def check(self, name: str, use: str) -> None: ...
    def identity(self, name: str) -> dict[str, Any]: ...
    def ask(self, name: str) -> Any: ...
    def policy(self, name: str) -> Any: ...
    def reward(self, name: str) -> Any: ...
    def embed(self, name: str) -> Any: ...
    def sandbox(self, name: str) -> Any: ...
    def estimate(self, name: str, tokens_in: int, tokens_out: int) -> float | None: ...
    def concurrency(self, name: str) -> int: ...
    async def close(self) -> None: ...


@dataclass
class Context:
    """What the steps of one run share."""

    store: Store
    recipe: Recipe
    models: Models | None
    progress: Progress
    run_id: str
    plan: bool = False
    retry_failed: bool = False
    scratch: bool = False
    """A plan on a store of its own, which sources may fill."""
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    """The one event loop of the run: clients of models live on it from step to step."""
    keys: Keys = field(default_factory=Keys)
    judge_keys: list[str] = field(default_factory=list)

    def read_path(self, path: str | Path) -> Path:
        """A path of the recipe: from here, or from the recipe's folder."""
        return read_path(self.recipe, path)


def read_path(recipe: Recipe, path: str | Path) -> Path:
    """A path of the recipe: from here, or from the recipe's folder."""
    path = Path(path)
    beside = recipe.folder / path if recipe.folder else path
    return path if path.exists() or path.is_absolute() or not beside.exists() else beside


@dataclass(frozen=True)
class Bound:
    """A step, its method, checked parameters and the models it is handed."""

    step: Step
    method: Method
    params: Mapping[str, Any]
    handed: Mapping[str, tuple[str, ...]]
    """Name left of the star -> names of the recipe's models: one, or several for a mapping; what is left out is not in it."""
    extra: Mapping[str, Any]
    """Left of the star and given by the recipe: `path` of a source."""

    def key(self, context: Context, reads: Mapping[str, str] | None = None) -> str:
        models = {name: self._identity(context.models, name) for name in self.handed} if context.models else {}
        also: dict[str, Any] = {"models": models, "reads": dict(reads or {})}
        if "seed" in self.method.handed:
            also["seed"] = context.recipe.seed
        return self.method.key(self.params, also)

    def _identity(self, models: Models, name: str) -> Any:
        """What is behind a name; of several, each under the name by which the method knows it."""
        found = [[model, models.identity(model)] for model in self.handed[name]]
        return found if self.method.models[name].several else found[0][1]


def execute(
    store: Store,
    recipe: Recipe,
    models: Models | None = None,
    *,
    progress: Progress | None = None,
    plan: bool = False,
    retry_failed: bool = False,
    command: str = "",
    keys: Keys | None = None,
) -> Report:
    """Run every step of `recipe` on `store`; running again computes what is missing.

    Args:
        models: hands out what stands left of the star; None for recipes without models.
        plan: compute nothing, only count rows, calls and cost.
        retry_failed: rows that ended `failed` are tried once more.
        keys: whose labels, signals and decisions the first step reads; default: the newest labels and signals, no filter.
    """
    bound = [bind(step, recipe) for step in recipe.steps]
    for step in bound:
        for name, handed in step.handed.items():
            for model in handed:
                if models is None:
                    raise UnknownName("model", model, recipe.models, f" of the step {step.step}")
                models.check(model, step.method.models[name].use)
    report = Report(str(uuid.uuid4()), planned=plan)
    with _scratch(store) if plan and not store.exists else nullcontext(store) as place:
        keys = keys or (Keys.newest(place) if place.exists else Keys())
        keys.sources = recipe.only
        context = Context(place, recipe, models, progress or Quiet(), report.run_id, plan, retry_failed, keys=keys)
        context.scratch = place is not store
        _all(context, bound, report, command)
    return report


@contextmanager
def _scratch(store: Store) -> Iterator[Store]:
    """A store that lasts as long as a plan: what the sources would bring is counted there."""
    with tempfile.TemporaryDirectory() as folder:
        place = Store(Path(folder) / store.path.name)
        with place.write():
            pass
        yield place


def _all(context: Context, bound: Sequence[Bound], report: Report, command: str) -> None:
    """Step after step; however it ends, models are closed and the run's end is noted."""
    if not context.plan:
        _begin(context, command)
    try:
        for step in bound:
            report.steps.append(_one(context, step))
    except (Stopped, KeyboardInterrupt):
        report.state = "stopped"
        raise
    except BaseException:
        report.state = "failed"
        raise
    finally:
        if context.models is not None:
            context.runner.run(context.models.close())
        context.runner.close()
        if not context.plan:
            _end(context, report)


def bind(step: Step, recipe: Recipe) -> Bound:
    """Check a step's parameters against its method and pick out what stands left of the star."""
    method = catalogue.find(step.shelf, step.method)
    given = dict(step.params)
    _check_left(method)
    handed = {}
    for name, wanted in method.models.items():
        models = _handed(step, wanted, given.pop(name, None), recipe)
        if models:
            handed[name] = models
    extra = {}
    if "path" in method.handed:
        if "path" not in given:
            raise PrefdataError(f"{step} needs  path: FILE.")
        extra["path"] = given.pop("path")
    if step.shelf == "exports":
        from prefdata.core.exporting import SHELF_PARAMS

        extra |= {name: given.pop(name) for name in list(given) if name in SHELF_PARAMS and name not in method.params}
        for name in given:
            if name not in method.params:
                raise UnknownName("parameter", name, {*method.params, *SHELF_PARAMS}, f" of {method.shelf}/{method.name}")
    bound = Bound(step, method, _with_files(method, method.bind(given), recipe), handed, extra)
    if method.models:
        check_calls(bound)
    return bound


def _check_left(method: Method) -> None:
    """Refuse a row-wise method with something left of its star that nobody hands in."""
    if method.shelf not in ("strategies", "judges"):
        return
    for name in method.handed[1:]:
        if name not in method.models and name != "seed":
            raise PrefdataError(
                f"{method.path}: {name!r} stands left of the star, and its type is none that is handed in; known: "
                f"{', '.join(USES)}, each also as  Mapping[str, {next(iter(USES))}]  or  | None,  and  seed: int."
            )


def _handed(step: Step, wanted: Wanted, given: Any, recipe: Recipe) -> tuple[str, ...]:
    """The names of the models that a recipe hands in under one name."""
    if given is None and wanted.optional:
        return ()
    value = "NAME" if not wanted.several else "[NAME, NAME]"
    if given is None:
        raise PrefdataError(
            f"{step} needs  {wanted.name}: {value}  with {'some' if wanted.several else 'one'} of the recipe's models "
            f"({', '.join(recipe.models) or 'none yet'})."
        )
    names = [given] if isinstance(given, str) else given
    if (
        not isinstance(names, list | tuple)
        or not names
        or not all(isinstance(n, str) for n in names)
        or (len(names) > 1 and not wanted.several)
    ):
        raise BadValue(
            f"{step}: {wanted.name}", given, f"the name of {'one or several models' if wanted.several else 'one model'}: {value}"
        )
    if len(set(names)) < len(names):
        raise BadValue(f"{step}: {wanted.name}", given, "different models", "Give a model that speaks twice two names under models.")
    return tuple(names)


def _with_files(method: Method, params: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Parameters with paths as read from here or the recipe's folder; a judge or strategy only reads files, so they must be there."""
    found = {name: read_path(recipe, value) if isinstance(value, Path) else value for name, value in params.items()}
    if method.shelf in ("strategies", "judges"):
        for name, value in found.items():
            if isinstance(value, Path) and not value.exists():
                raise BadValue(f"{method.shelf}/{method.name}: {name}", str(value), "the path of a file that is there")
    return found


def _one(context: Context, bound: Bound) -> StepReport:
    from prefdata.core import exporting, rowwise, tables

    drivers = {
        "sources": tables.source,
        "pairing": tables.pairing,
        "acquire": tables.acquire,
        "aggregate": tables.aggregate,
        "signals": tables.signal,
        "filters": tables.filters,
        "audits": tables.audit,
        "strategies": rowwise.strategy,
        "judges": tables.source if "path" in bound.extra else rowwise.judge,
        "exports": exporting.export,
    }
    started = time.monotonic()
    report = drivers[bound.step.shelf](context, bound)
    report.seconds = time.monotonic() - started
    context.progress.finish(report)
    return report


def record_step(context: Context, bound: Bound, key: str, *, gives: Sequence[str] = (), fingerprint: str = "", rows: int = 0) -> None:
    """Note that this run used `key`; views and fingerprints go by it."""
    if context.plan:
        return
    params = {"subject": bound.method.header["subject"], **{k: _plain(v) for k, v in bound.params.items()}}
    with context.store.write() as connection:
        connection.execute("DELETE FROM steps WHERE key = ?", [key])
        connection.execute(
            "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, now()::TIMESTAMP)",
            [
                key,
                bound.method.shelf,
                bound.method.name,
                canonical_json(params),
                json.dumps(list(gives)),
                fingerprint,
                rows,
                context.run_id,
            ],
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _begin(context: Context, command: str) -> None:
    from prefdata import __version__

    with context.store.write() as connection:
        connection.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, now()::TIMESTAMP, NULL, 'running', NULL)",
            [context.run_id, command, canonical_json(context.recipe.as_dict()), __version__],
        )


def _end(context: Context, report: Report) -> None:
    with context.store.write() as connection:
        connection.execute(
            "UPDATE runs SET ended = now()::TIMESTAMP, state = ?, report = ? WHERE id = ?",
            [report.state, json.dumps(report.as_dict(), default=str), context.run_id],
        )
