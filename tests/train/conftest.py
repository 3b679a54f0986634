"""Models and exports that the trainer's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from train_toys import as_chat, make_encoder, make_model, toy_pairs, write_export


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("chat") / "model", arch="qwen2", chat=True, tie_word_embeddings=True)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder") / "model")


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 training and 24 held-out pairs of strings."""
    return write_export(tmp_path_factory.mktemp("toy") / "export", train=toy_pairs(64), validation=toy_pairs(24, seed=7, offset=1000))


@pytest.fixture(scope="session")
def toy_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": as_chat(toy_pairs(64)), "validation": as_chat(toy_pairs(24, seed=7, offset=1000))}
    return write_export(tmp_path_factory.mktemp("toychat") / "export", **splits)


@pytest.fixture(autouse=True)
def _quick_picture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than a whole toy run; the tests about the picture ask for `real_picture`."""
    if "real_picture" not in request.fixturenames:
        monkeypatch.setattr("prefdata.train.finish.draw", lambda lines, path, **named: path.write_bytes(b"not drawn"))


@pytest.fixture
def real_picture() -> None:
    """Draw training.png in this test."""
