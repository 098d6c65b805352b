from pathlib import Path

import pytest

from benchmarks.support import data
from benchmarks.support.errors import BenchmarkError


def test_a_data_file_is_there_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "DATA", tmp_path)
    (tmp_path / "one.tsv").touch()
    assert data.data_file("one.tsv") == tmp_path / "one.tsv"
    with pytest.raises(BenchmarkError, match=r"two\.tsv is missing: set ADAMIX_DATA"):
        data.data_file("two.tsv")


def test_base_models_are_had_by_what_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "sample_model", {"minilm": Path("here")}.__getitem__)
    assert data.base_models({"sst2": "minilm", "mrpc": "minilm"}) == {"sst2": Path("here"), "mrpc": Path("here")}
    with pytest.raises(BenchmarkError, match="the base models are not to be had: 'other'"):
        data.base_models({"e2e": "other"})
