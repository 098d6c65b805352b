from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu.setting import Setting
from benchmarks.gpu.texts import COUNT, MADE_UP, SST2, TINY_COUNT, made_up, read_texts, write_texts
from benchmarks.support import data


def test_made_up_texts_have_the_lengths_of_sentences() -> None:
    words = np.array([len(text.split()) for text in made_up(COUNT)])
    assert 17.5 < words.mean() < 19.5  # SST-2's test sentences: 18.5
    assert words.min() >= 1 and words.max() <= 53
    assert made_up(5) == made_up(5)


def test_real_texts_are_taken_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "DATA", tmp_path)
    setting = Setting(folder=tmp_path, provider="cpu")
    assert write_texts(setting) == MADE_UP
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "test.tsv").write_text("one two\t0\n")
    (tmp_path / "sst2" / "dev.tsv").write_text("four\t1\n")
    assert write_texts(setting) == SST2
    assert read_texts(setting) == (SST2, ["one two", "four"])
    assert write_texts(Setting(folder=tmp_path, provider="cpu", tiny=True)) == MADE_UP
    assert len(read_texts(setting)[1]) == TINY_COUNT
