import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from adamix_train.errors import BaseError, DataError, RecipeError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.inputs import read_inputs
from adamix_train.run.prepare import prepare
from adamix_train.run.train import train
from tests.fixtures.training import generation_recipe, small_recipe


def test_bad_data_leaves_no_folder(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("text,label\nfine,neutral\n")
    for changes, error in (
        ({"train_file": str(tmp_path / "none.csv")}, DataError),
        ({"text_column": "message"}, DataError),
        ({"validation_file": str(tmp_path / "v.csv")}, DataError),
        ({"test_file": str(tmp_path / "v.csv")}, DataError),
        ({"base": str(tmp_path / "nowhere")}, BaseError),
        ({"max_length": 65}, RecipeError),
        ({"max_length": 2}, RecipeError),
        ({"target_modules": "nothing"}, RecipeError),
        ({"target_modules": "("}, RecipeError),
        ({"report_to": "nobody"}, RecipeError),
    ):
        with pytest.raises(error):
            train(replace(recipe, **changes))
        assert not Path(recipe.out).exists(), changes


def test_what_cannot_be_generated_is_refused_before_training(
    generative_bases: dict[str, Path], tiny_base: Path, writing_data: Path, tmp_path: Path
) -> None:
    long = tmp_path / "long.csv"
    long.write_text("input,target\n" + "parcel " * 30 + ",the parcel\n")
    given = generation_recipe(generative_bases["llama"], writing_data, tmp_path / "run")
    for changes, error, message in (
        ({"max_new_tokens": 62}, RecipeError, "the longest prompt has 3 tokens, and this base has 64 positions"),
        ({"test_file": str(long), "strict": True}, DataError, "has 31 tokens and max_length is 24"),
        ({"base": str(tiny_base)}, BaseError, "is a bert, an encoder, which cannot generate"),
    ):
        with pytest.raises(error, match=message):
            train(replace(given, **changes))
        assert not (tmp_path / "run").exists()


def test_what_cannot_be_exported_is_refused_before_training(
    generative_bases: dict[str, Path], tiny_data: Path, tmp_path: Path
) -> None:
    ends = tmp_path / "ends.csv"
    ends.write_text(tiny_data.read_text() + "the parcel </s> was good,positive\n")
    capped = Path(shutil.copytree(generative_bases["llama"], tmp_path / "capped"))
    config = json.loads((capped / "config.json").read_text())
    (capped / "config.json").write_text(json.dumps({**config, "model_type": "gemma2", "attn_logit_softcapping": 50.0}))
    given = small_recipe(generative_bases["t5"], tiny_data, tmp_path / "run")
    for changes, error, message in (
        ({"train_file": str(ends)}, DataError, "has 2 end-of-sequence tokens .* T5's classifier needs 1: leave them"),
        ({"base": str(capped)}, BaseError, "is a gemma2, whose soft-capped attention cannot be exported"),
    ):
        with pytest.raises(error, match=message):
            train(replace(given, **changes))
        assert not (tmp_path / "run").exists()


def test_a_truncated_example_is_counted_or_refused(recipe: Recipe) -> None:
    results = train(replace(recipe, max_length=5, epochs=1))
    assert results["truncated_examples"] == 48 * 2
    with pytest.raises(DataError, match="has 6 tokens and max_length is 5"):
        train(replace(recipe, out=recipe.out + "2", max_length=5, strict=True))


def test_what_was_chosen_is_printed_with_the_reason(recipe: Recipe, caplog: pytest.LogCaptureFixture) -> None:
    """36 rows in batches of 8 are 5 steps a pass; 40 passes are the most."""
    open_recipe = replace(recipe, epochs=None, learning_rate=None)
    with caplog.at_level("INFO"):
        run = prepare(read_inputs(open_recipe, resume=False))
    assert run.inputs.recipe.epochs == 40
    assert "epochs 40.0, because a pass has 5 steps, and a run has at most 40 passes" in caplog.messages
    assert any(message.startswith("learning_rate 0.0028, because lora mixtures") for message in caplog.messages)
    assert not any(message.startswith("batch_size") for message in caplog.messages), "it was given"
