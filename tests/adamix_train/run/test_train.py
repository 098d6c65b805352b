import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from adamix_train.artifacts.checkpoint import read_card
from adamix_train.base_model.load import load_classifier
from adamix_train.errors import BaseError, CheckpointError, DataError, RecipeError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train


@pytest.fixture
def recipe(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> Recipe:
    return Recipe(
        base=str(tiny_base),
        train_file=str(tiny_data),
        test_file=str(tiny_data),
        out=str(tmp_path / "run"),
        validation_share=0.25,
        r=8,
        epochs=4,
        report_to="none",
        batch_size=8,
        learning_rate=2e-2,
        max_length=16,
    )


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "adapter_model.safetensors")


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_a_mixture_learns_what_a_word_means(recipe: Recipe) -> None:
    """With LoRA: a random base gives the bottleneck adapter nothing to work on; tests/e2e trains it on a real one."""
    results = train(replace(recipe, kind="lora", epochs=12))
    assert results["test_accuracy"] > 0.9
    assert results["labels"] == ["negative", "positive"]


def test_a_checkpoint_has_all_and_nothing_is_pickled(recipe: Recipe) -> None:
    train(recipe)
    out = Path(recipe.out)
    files = {path.suffix for path in out.rglob("*") if path.is_file()}
    assert files <= {".safetensors", ".json", ".md", ".txt", ".jinja", ".png"}
    for path in out.rglob("*"):
        assert not path.is_file() or not path.read_bytes().startswith((b"\x80", b"PK")), f"{path} is a pickle"
    card = read_card(out)
    assert card.recipe == json.loads(json.dumps(recipe.__dict__))
    assert card.metrics.keys() >= {"accuracy", "test_accuracy", "loss"}
    results = json.loads((out / "results.json").read_text())
    assert results["accuracy"] == card.metrics["accuracy"]
    model = peft.PeftModel.from_pretrained(load_classifier(Path(recipe.base), card.labels), out)
    assert_equal(peft.get_peft_model_state_dict(model), weights(out))


def test_the_same_seed_gives_the_same_weights_and_another_does_not(recipe: Recipe, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(replace(recipe, out=str(tmp_path / name), seed=seed, epochs=2))
    assert_equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    one, other = weights(tmp_path / "a"), weights(tmp_path / "c")
    assert not any(torch.equal(one[name], other[name]) for name in one if name.endswith("down.weight"))


class Kill(TrainerCallback):
    """Stops a run hard after a number of steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, gradient_accumulation=2, batch_size=4, lora_dropout=0.1, kind="lora")
    train(replace(recipe, out=str(tmp_path / "whole")))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, callbacks=[Kill(step=12)])
    with pytest.raises(CheckpointError, match="cut short leaves checkpoint-N folders: resume it with --resume"):
        read_card(Path(recipe.out))
    train(recipe, resume=True)
    assert_equal(weights(recipe.out), weights(tmp_path / "whole"))


def test_a_step_checkpoint_can_be_exported_as_well(recipe: Recipe) -> None:
    train(recipe)
    (step,) = Path(recipe.out).glob("checkpoint-*")
    assert read_card(step).labels == ["negative", "positive"]


def test_a_folder_with_something_in_it_is_not_written_to(recipe: Recipe) -> None:
    Path(recipe.out).mkdir()
    (Path(recipe.out) / "precious").write_text("")
    with pytest.raises(RecipeError, match="is not empty: give another --out, or --resume"):
        train(recipe)
    assert [path.name for path in Path(recipe.out).iterdir()] == ["precious"]


def test_a_file_in_the_place_of_the_folder_is_kept(recipe: Recipe) -> None:
    Path(recipe.out).write_text("precious")
    with pytest.raises(RecipeError, match="is a file: give another --out"):
        train(recipe)
    assert Path(recipe.out).read_text() == "precious"


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


def test_resuming_nothing_is_an_error(recipe: Recipe) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(recipe, resume=True)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_checkpoint_that_was_cut_short_is_refused(recipe: Recipe, name: str) -> None:
    train(replace(recipe, epochs=1))
    file = Path(recipe.out) / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with pytest.raises(CheckpointError, match="is cut short or changed since training"):
        read_card(Path(recipe.out))
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        read_card(Path(recipe.out))


def test_a_card_whose_labels_were_swapped_is_refused(recipe: Recipe) -> None:
    train(replace(recipe, epochs=1))
    file = Path(recipe.out) / "adamix.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "labels": content["labels"][::-1]}))
    with pytest.raises(CheckpointError, match="was changed since training"):
        read_card(Path(recipe.out))


def test_damaged_training_state_is_one_clear_error(recipe: Recipe) -> None:
    train(replace(recipe, epochs=1))
    (step,) = Path(recipe.out).glob("checkpoint-*")
    file = step / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors does not hold a training state"):
        train(replace(recipe, epochs=1), resume=True)


def test_a_run_is_resumed_with_its_own_data_and_base(recipe: Recipe, tmp_path: Path) -> None:
    data = tmp_path / "own.csv"
    data.write_text(Path(recipe.train_file).read_text())
    recipe = replace(recipe, train_file=str(data), test_file=None, epochs=1)
    train(recipe)
    data.write_text(data.read_text().replace("negative", "zzz"))
    with pytest.raises(CheckpointError, match="labels changed since the run was started"):
        train(recipe, resume=True)


def test_a_run_is_resumed_with_its_own_recipe(recipe: Recipe) -> None:
    train(replace(recipe, epochs=1))
    with pytest.raises(RecipeError, match=r"epochs is 2, but the run in .* was started with 1"):
        train(replace(recipe, epochs=2), resume=True)
