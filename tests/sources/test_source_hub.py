"""`datasets` folders: saved ones, folders of data files through `load_dataset`, and what is said where nothing can be loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from source_helpers import plain

from prefdata.core.errors import PrefdataError, UnknownName
from prefdata.core.reading import detect
from prefdata.core.reading.hub import is_hub_name
from prefdata.sources.auto import auto
from prefdata.sources.hub import hub

datasets = pytest.importorskip("datasets")
ROWS: list[dict[str, Any]] = [
    {"prompt": f"p{n}", "chosen": [{"role": "assistant", "content": "x"}], "rejected": [{"role": "assistant", "content": f"y{n}"}], "k": n}
    for n in range(2300)
]


@pytest.fixture
def quiet() -> Any:
    datasets.disable_progress_bars()
    yield datasets.Dataset.from_list(ROWS)
    datasets.enable_progress_bars()


def test_a_saved_data_set_is_read_with_its_selection(quiet: Any, tmp_path: Path) -> None:
    quiet.select(range(9, 4, -1)).save_to_disk(tmp_path / "one")
    found = plain(hub(tmp_path / "one", source="mine"))["pairs"]
    assert [(row["line"], row["prompt"], row["meta"], row["source"]) for row in found[:2]] == [
        (1, "p9", {"k": 9}, "mine"),
        (2, "p8", {"k": 8}, "mine"),
    ]
    assert plain(auto(tmp_path / "one", source="mine"))["pairs"] == found


def test_splits_become_subsets_and_can_be_chosen(quiet: Any, tmp_path: Path) -> None:
    datasets.DatasetDict(train=quiet, test=quiet.select(range(3))).save_to_disk(tmp_path / "d")
    found = plain(hub(tmp_path / "d"))["pairs"]
    assert [(row["subset"], row["line"]) for row in found[-3:]] == [("test", 1), ("test", 2), ("test", 3)]
    assert len(found) == 2303
    assert len(plain(hub(tmp_path / "d", split="test"))["pairs"]) == 3
    assert detect(tmp_path / "d").shape == "preference"
    with pytest.raises(UnknownName, match=r"unknown split 'tset' .*Did you mean 'test'"):
        list(hub(tmp_path / "d", split="tset"))


def test_a_folder_of_files_goes_through_load_dataset(quiet: Any, tmp_path: Path) -> None:
    """The way a Hub name takes too: load_dataset with streaming, splits by file name."""
    quiet.to_parquet(tmp_path / "train-00000.parquet")
    quiet.select(range(2)).to_parquet(tmp_path / "test-00000.parquet")
    found = plain(hub(tmp_path))["pairs"]
    assert {row["subset"] for row in found} == {"train", "test"}
    assert len(found) == 2302
    assert [row["response_b"] for row in plain(hub(tmp_path, split="test"))["pairs"]] == ["y0", "y1"]


def test_names_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert is_hub_name("org/some-set.v1")
    assert not any(map(is_hub_name, ("here/data", "one", "a/b/c", "/abs/path", "../up")))


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PrefdataError, match=r"data set '.*nothing' cannot be loaded \(.*HF_TOKEN"):
        list(hub(tmp_path / "nothing"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.jsonl").write_text('{"prompt": "p", "chosen": "x", "rejected": "y"}\n{"prompt": \n')
    with pytest.raises(PrefdataError, match=r"cannot be loaded \(.*check the folder"):
        list(hub(tmp_path / "broken"))
    assert len(plain(auto(tmp_path / "broken"))["pairs"]) == 1


def test_an_offline_hub_name_is_one_sentence(tmp_path: Path) -> None:
    code = "from prefdata.sources.auto import auto\nfrom prefdata.core.errors import PrefdataError\n"
    code += "try:\n    list(auto('some-org/some-set'))\nexcept PrefdataError as error:\n    print(error)"
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, cwd=tmp_path).stdout
    assert out.startswith("the data set 'some-org/some-set' cannot be loaded (")
    assert out.endswith("check the name, the revision, the network and, for gated sets, HF_TOKEN.\n")


def test_datasets_is_imported_only_when_used() -> None:
    code = "import sys, prefdata.sources.hub, prefdata.sources.auto; print([m for m in ('datasets', 'torch') if m in sys.modules])"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout.strip() == "[]"
