import json
from pathlib import Path

import pytest

from benchmarks.support import data


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder in which every file is there; only E2E's is read."""
    folder = tmp_path / "shared"
    for name in ("sst2/train.tsv", "sst2/test.tsv", "mrpc/train.txt", "mrpc/test.txt", "e2e/devset.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    rows = [f"thing {index // 2},text {index}" for index in range(200)]
    (folder / "e2e/testset_w_refs.csv").write_text("\n".join(["mr,ref", *rows]) + "\n")
    monkeypatch.setattr(data, "DATA", folder)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base of MiniLM's width, without weights."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 384}))
    return folder
