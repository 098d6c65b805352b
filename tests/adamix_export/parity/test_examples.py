import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.parity.bounds import Check
from adamix_export.parity.examples import parity_examples
from adamix_train.data.splits import read_splits, task_of
from adamix_train.errors import DataError
from adamix_train.recipe.recipe import Recipe
from tests.adamix_export.conftest import Export, trained


def test_a_run_without_a_test_file_is_compared_on_what_it_held_out_from_any_folder(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(tiny_data, tmp_path / "tone.csv")
    monkeypatch.chdir(tmp_path)
    trained(Path("run"), tiny_base, Path("tone.csv"), test_file=None)
    monkeypatch.chdir(tmp_path.parent)
    source = open_checkpoint(str(tmp_path / "run"))
    recipe = Recipe(**source.card.recipe)
    assert recipe.train_file == str(tmp_path / "tone.csv")
    held_out = read_splits(recipe, task_of(recipe)).validation
    assert parity_examples(source, Check()) == (held_out, "held_out.jsonl")
    assert len(held_out) == 12
    assert parity_examples(source, Check(limit=5))[0] == held_out[:5]
    (source.folder / "held_out.jsonl").unlink()
    assert parity_examples(source, Check()) == ([], "canary texts")
    named = replace(source, card=replace(source.card, recipe={**source.card.recipe, "test_file": recipe.train_file}))
    assert parity_examples(named, Check())[1] == "tone.csv"


def test_parity_data_with_strange_labels_are_refused(export: Export, houlsby: Path, noun_data: Path) -> None:
    with pytest.raises(DataError, match="has labels that houlsby does not know: a, my, the"):
        export("merged", houlsby, data=noun_data, fresh=True)
