import json
from pathlib import Path

import peft
import pytest

from adamix_train.artifacts.checkpoint import read_card
from adamix_train.base_model.load import load_classifier
from adamix_train.errors import CheckpointError
from adamix_train.recipe.recipe import Recipe
from tests.fixtures.training import assert_equal, weights


def test_a_checkpoint_has_all_and_nothing_is_pickled(shared_run: Recipe) -> None:
    out = Path(shared_run.out)
    files = {path.suffix for path in out.rglob("*") if path.is_file()}
    assert files <= {".safetensors", ".json", ".md", ".txt", ".jinja", ".jsonl", ".png"}
    for path in out.rglob("*"):
        assert not path.is_file() or not path.read_bytes().startswith((b"\x80", b"PK")), f"{path} is a pickle"
    card = read_card(out)
    said = {name: value for name, value in shared_run.__dict__.items() if value is not None}
    chosen = {"routing": "shares", "consistency_from": 0.5, "labels_on": "both", "warmup_ratio": 0.06}
    assert card.recipe == json.loads(json.dumps({**dict.fromkeys(shared_run.__dict__), **chosen, **said}))
    assert card.metrics.keys() >= {"accuracy", "test_accuracy", "loss"}
    results = json.loads((out / "results.json").read_text())
    assert results["accuracy"] == card.metrics["accuracy"]
    model = peft.PeftModel.from_pretrained(load_classifier(Path(shared_run.base), card.labels), out)
    assert_equal(peft.get_peft_model_state_dict(model), weights(out))


def test_a_step_checkpoint_can_be_exported_as_well(shared_run: Recipe) -> None:
    (step,) = Path(shared_run.out).glob("checkpoint-*")
    assert read_card(step).labels == ["negative", "positive"]


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_checkpoint_that_was_cut_short_is_refused(finished_run: Recipe, name: str) -> None:
    file = Path(finished_run.out) / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with pytest.raises(CheckpointError, match="is cut short or changed since training"):
        read_card(Path(finished_run.out))
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        read_card(Path(finished_run.out))


def test_a_card_whose_labels_were_swapped_is_refused(finished_run: Recipe) -> None:
    file = Path(finished_run.out) / "adamix.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "labels": content["labels"][::-1]}))
    with pytest.raises(CheckpointError, match="was changed since training"):
        read_card(Path(finished_run.out))
