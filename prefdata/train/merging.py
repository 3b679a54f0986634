"""Arithmetic on trained weights: the methods of `merges/`, tensor by tensor, so that no more than one is held at a time.

A method's arguments left of the `*` are the models it combines. The merged folder has the last one's configuration and
tokenizer; merge.json says the formula, the models with their fingerprints, and how far each stands from the first.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from prefdata.core.catalogue import read_method
from prefdata.core.errors import NeedsExtra, PrefdataError, UnknownName
from prefdata.core.method import Method
from prefdata.models.fingerprint import fingerprint, locate
from prefdata.models.packing_model import quiet
from prefdata.train.config import Event, MergeResult

_WEIGHTS = ("*.safetensors", "*.bin", "*.index.json", "*.pt", "adapter_*", "training.*", "run.json", "metrics.jsonl", "README.md")
"""What is not copied from the last model: its weights, and what is said about its training."""


def methods() -> dict[str, Method]:
    """The ways to merge, by name."""
    return {path.stem: read_method("merges", path) for path in sorted((Path(__file__).parent / "merges").glob("[!_]*.py"))}


@dataclass(frozen=True)
class Model:
    """Weights that can be read one by one."""

    folder: Path
    names: tuple[str, ...]
    get: Callable[[str], Tensor]


def run(
    name: str, models: Mapping[str, str | Path], out: Path, params: Mapping[str, Any], progress: Callable[[Event], None]
) -> MergeResult:
    """See `prefdata.train.merge`."""
    if name not in methods():
        raise UnknownName("merge", name, methods())
    method = methods()[name]
    bound, function = method.bind(params), method.load()
    for role in models:
        if role not in method.handed:
            raise UnknownName("role", role, method.handed, f" of {name}")
    missing = [role for role in method.handed if role not in models]
    if missing:
        raise PrefdataError(f"{name} combines {', '.join(method.handed)} and got no {missing[0]}; give its folder.")
    function(*(torch.ones(2) for _ in method.handed), **bound)
    if out.exists() and any(out.iterdir()):
        raise PrefdataError(f"the folder {str(out)!r} is not empty; give a new one, nothing was written.")
    with ExitStack() as stack:
        loaded = [_open(_find(models[role]), stack) for role in method.handed]
        _check_alike(method.handed, loaded)
        return _merge(method, bound, function, loaded, out, progress)


def _merge(
    method: Method,
    params: Mapping[str, Any],
    function: Callable[..., Tensor],
    models: list[Model],
    out: Path,
    progress: Callable[[Event], None],
) -> MergeResult:
    squares = dict.fromkeys([*method.handed[1:], "merged"], 0.0)
    merged: dict[str, Tensor] = {}
    names = models[-1].names
    for done, name in enumerate(names, 1):
        given = [model.get(name) for model in models]
        if given[-1].is_floating_point():
            wide = [value.float() for value in given]
            value = function(*wide, **params)
            for role, other in zip(squares, [*wide[1:], value], strict=True):
                squares[role] += float(((other - wide[0]).double() ** 2).sum())
            merged[name] = value.to(given[-1].dtype).contiguous()
        else:
            merged[name] = given[-1]
        progress(Event("phase", "merging", done, len(names)))
    norms = {role: round(math.sqrt(square), 6) for role, square in squares.items()}
    facts = {
        "method": f"merges/{method.name}@{method.version}",
        "paper": method.header["paper"],
        "params": dict(params),
        "models": {
            role: {"path": str(m.folder), "fingerprint": fingerprint(m.folder)} for role, m in zip(method.handed, models, strict=True)
        },
        "distance_from_first": norms,
    }
    _write(out, models[-1].folder, merged, facts)
    return MergeResult(out, method.name, len(names), norms)


def _find(model: str | Path) -> Path:
    """The folder of a model or an adapter, which has no config.json."""
    return Path(model) if (Path(model) / "adapter_config.json").exists() else locate(str(model))


def _open(folder: Path, stack: ExitStack) -> Model:
    """A model's weights; an adapter is folded into its base."""
    if (folder / "adapter_config.json").exists():
        return _folded(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise PrefdataError(f"the model folder {str(folder)!r} holds no .safetensors file; save the model in that format first.")
    try:
        opened = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
    except (OSError, SafetensorError) as error:
        raise PrefdataError(f"the weights in {str(folder)!r} cannot be read ({error}); save the model again.") from None
    where = {name: file for file in opened for name in file.keys()}  # noqa: SIM118 (no mapping)
    return Model(folder, tuple(sorted(where)), lambda name: where[name].get_tensor(name))


def _folded(folder: Path) -> Model:
    try:
        from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
    except ImportError:
        raise NeedsExtra("LoRA", "train") from None
    task = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("task_type")
    loader = AutoPeftModelForSequenceClassification if task == "SEQ_CLS" else AutoPeftModelForCausalLM
    try:
        with quiet():
            state = loader.from_pretrained(folder).merge_and_unload().state_dict()
    except (OSError, ValueError, RuntimeError) as error:
        raise PrefdataError(f"the adapter {str(folder)!r} does not load on its base: {str(error).splitlines()[0]}") from None
    # Tied weights stand in a file once, under the name that comes first.
    first = {value.data_ptr(): name for name, value in reversed(state.items())}
    own = {name: state[name] for name in first.values()}
    return Model(folder, tuple(sorted(own)), own.__getitem__)


def _check_alike(roles: tuple[str, ...], models: list[Model]) -> None:
    """Models of one base have the same weights in the same shapes; tied ones may be written once or twice."""
    first, last = models[0], models[-1]
    for role, model in zip(roles, models, strict=True):
        lacking = sorted(set(last.names) - set(model.names))
        if lacking:
            raise PrefdataError(f"{role} ({str(model.folder)!r}) has no weight {lacking[0]!r}; the models must come from one base.")
        for name in last.names:
            if model.get(name).shape != first.get(name).shape:
                shapes = f"{tuple(model.get(name).shape)} and {tuple(first.get(name).shape)}"
                raise PrefdataError(
                    f"the weight {name!r} of {role} and {roles[0]} differ in shape, {shapes}; the models must come from one base."
                )


def _write(out: Path, like: Path, merged: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Everything into a folder beside `out`, then renamed."""
    part = out.with_name(f".{out.name}.{os.getpid()}")
    base = _base_of(like)
    try:
        shutil.copytree(base, part, ignore=shutil.ignore_patterns(*_WEIGHTS, "checkpoints", "reference", ".*"))
        shards = split_torch_state_dict_into_shards(merged, filename_pattern="model{suffix}.safetensors")
        for file, names in shards.filename_to_tensors.items():
            save_file({name: merged[name] for name in names}, part / file, metadata={"format": "pt"})
            (part / file).chmod((part / "config.json").stat().st_mode)
        if shards.is_sharded:
            index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
            (part / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        (part / "merge.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (part / "README.md").write_text(_card(facts), encoding="utf-8")
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise PrefdataError(
            f"the merged model cannot be written to {str(out)!r} ({error.strerror or error}); free space, or give another folder."
        ) from None


def _base_of(folder: Path) -> Path:
    """Where the configuration lies: an adapter's is its base's."""
    adapter = folder / "adapter_config.json"
    return locate(str(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])) if adapter.exists() else folder


def _card(facts: Mapping[str, Any]) -> str:
    rows = [f"| {role} | `{m['path']}` | `{m['fingerprint']}` |" for role, m in facts["models"].items()]
    norms = [f"| {role} | {norm:g} |" for role, norm in facts["distance_from_first"].items()]
    params = ", ".join(f"{name} = {value}" for name, value in facts["params"].items())
    return (
        f"# Merged model ({facts['method']})\n\nMerged by [prefdata](https://pypi.org/project/prefdata/) with {params}. Method: "
        f"{facts['paper']}.\n\n| model | path | fingerprint |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "Distance from the first model (L2, all weights):\n\n| model | distance |\n|---|---|\n" + "\n".join(norms) + "\n"
    )
