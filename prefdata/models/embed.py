"""Text encoders by sentence-transformers: what many callers ask for is encoded together, each distinct text once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prefdata.core.errors import NeedsExtra, PrefdataError, Stopped
from prefdata.models.fingerprint import locate
from prefdata.models.packing_model import pick_device, quiet
from prefdata.models.packing_queue import Gathered
from prefdata.models.protocol import CallFailed
from prefdata.models.spec import Spec

BATCH = 32
"""Texts encoded at once, where a recipe does not say; sentence-transformers sorts them by length."""
Vectors = npt.NDArray[np.float32]


class LocalEmbed:
    """A sentence-transformers model behind a queue; it is loaded when it is first needed."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._model: Any = None
        self._lock = threading.Lock()
        self._gathered: Gathered[list[str], Vectors] = Gathered(spec.name, self._round)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Array [len(texts), d], float32, each row of Euclidean length 1. A text beyond the model's limit is cut at its end."""
        return await self._gathered(list(texts))

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """The same at once, for whole tables."""
        with self._lock:
            model = self._load()
            distinct = list(dict.fromkeys(texts))
            size = int(self._spec.options.get("batch_size") or BATCH)
            found = model.encode(distinct, batch_size=size, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
            rows = np.asarray(found, dtype=np.float32).reshape(len(distinct), -1)
            place = {text: number for number, text in enumerate(distinct)}
            out: Vectors = rows[[place[text] for text in texts]]
        return out

    async def close(self) -> None:
        """End the thread."""
        await self._gathered.close()

    def _round(self, askers: Sequence[list[str]]) -> Iterator[tuple[int, Vectors | Exception]]:
        found = self.vectors([text for texts in askers for text in texts])
        start = 0
        for number, texts in enumerate(askers):
            mine = found[start : start + len(texts)]
            start += len(texts)
            finite = bool(np.isfinite(mine).all())
            yield number, mine if finite else CallFailed("the encoder gives a vector that holds no finite numbers.")

    def _load(self) -> Any:
        if self._model is not None:
            return self._model
        try:
            from sentence_transformers import SentenceTransformer
        except ModuleNotFoundError:
            raise Stopped(str(NeedsExtra(f"model {self._spec.name!r} as an encoder", "train"))) from None
        try:
            folder = locate(self._spec.model, self._spec.revision)
            device = pick_device(str(self._spec.options.get("device") or "auto"))
            dtype = str(self._spec.options.get("dtype", "float32"))
            with quiet():
                self._model = SentenceTransformer(str(folder), device=str(device), model_kwargs={"dtype": dtype}).eval()
        except PrefdataError as error:
            raise Stopped(f"stopped: model {self._spec.name!r} cannot be used: {error}") from None
        except Exception as error:  # every library below has errors of its own
            words = " ".join(str(error).split())[:300]
            raise Stopped(f"stopped: model {self._spec.name!r} cannot be loaded from {self._spec.model!r} as an encoder: {words}") from None
        if self._spec.options.get("max_length"):
            self._model.max_seq_length = min(self._model.max_seq_length or 1 << 20, int(self._spec.options["max_length"]))
        return self._model
