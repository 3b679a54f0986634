"""prefdata: curate and annotate preference datasets for LLM alignment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Store", "catalogue", "load_export", "run"]

if TYPE_CHECKING:
    from prefdata.core import catalogue
    from prefdata.core.export_io import load_export
    from prefdata.core.store import Store
    from prefdata.library import run

_WHERE = {
    "Store": ("prefdata.core.store", "Store"),
    "catalogue": ("prefdata.core.catalogue", None),
    "load_export": ("prefdata.core.export_io", "load_export"),
    "run": ("prefdata.library", "run"),
}


def __getattr__(name: str) -> Any:
    """Public names load what they need when they are first touched."""
    import importlib

    if name not in _WHERE:
        raise AttributeError(f"module 'prefdata' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded
