from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.tasks.generation import CANARY_TOKENS, calibration_texts, canaries
from adamix_export.tasks.reference_logits import CAUSAL, Logits, TokenLists
from adamix_train.errors import DataError
from tests.adamix_export.conftest import MakeGenerative


@pytest.fixture
def checkpoint(generative: MakeGenerative) -> Checkpoint:
    return open_checkpoint(str(generative("gpt2", "lora")))


def words(checkpoint: Checkpoint, ids: list[int]) -> str:
    return " ".join(checkpoint.tokenizer.convert_ids_to_tokens(ids))


def test_canaries_are_what_pytorch_writes_greedily_after_each_prompt_alone(checkpoint: Checkpoint) -> None:
    card = canaries(CAUSAL, checkpoint)
    _, second, third = card["canary_ids"]
    assert words(checkpoint, second) == " ".join(["<unk>"] * 4 + ["the", "<unk>", "<unk>", "my", "<unk>", "=>"])
    assert words(checkpoint, third) == "<unk> =>"
    for ids, tokens, logits in zip(card["canary_ids"], card["canary_tokens"], card["canary_logits"], strict=True):
        assert len(tokens) == len(logits) == CANARY_TOKENS
        for step, (token, logit) in enumerate(zip(tokens, logits, strict=True)):
            with torch.inference_mode():
                expected = checkpoint.reference(input_ids=torch.tensor([[*ids, *tokens[:step]]])).logits[0, -1]
            assert token == int(expected.argmax())
            assert logit == pytest.approx(float(expected.max()), abs=1e-4)
    assert card["prompt"] == "{input} =>"


def zeros(checkpoint: Checkpoint, prompts: TokenLists, tokens: TokenLists) -> Logits:
    """Logits of a model that always writes token 0."""
    return [np.zeros((len(row), 30), np.float32) for row in tokens]


def test_a_canary_that_is_too_long_loses_its_beginning(checkpoint: Checkpoint) -> None:
    short = replace(checkpoint, card=replace(checkpoint.card, max_length=3))
    card = canaries(replace(CAUSAL, logits=zeros), short)
    assert [words(short, ids) for ids in card["canary_ids"][1:]] == ["my <unk> =>", "<unk> =>"]
    assert card["canary_tokens"] == [[0] * CANARY_TOKENS] * 3


@pytest.mark.parametrize(("configured", "ends"), [(None, [2]), (2, [2]), (7, [2, 7]), ([9, 2, 5], [2, 5, 9])])
def test_a_text_ends_at_the_tokens_of_tokenizer_and_configuration(
    configured: int | list[int] | None, ends: list[int], checkpoint: Checkpoint
) -> None:
    assert checkpoint.tokenizer.eos_token_id == 2
    checkpoint.reference.generation_config.eos_token_id = configured
    assert canaries(replace(CAUSAL, logits=zeros), checkpoint)["eos_token_ids"] == ends


def test_calibration_texts_are_spread_over_the_inputs_with_the_first_target_of_each(checkpoint: Checkpoint) -> None:
    """The run's data has 16 inputs, with two targets each."""
    found = [words(checkpoint, text.ids) for text in calibration_texts(checkpoint, None, 4)]
    assert found == [
        f"{noun} {word} => the {noun} was {word}" for noun in ("parcel", "shop") for word in ("good", "bad")
    ]
    assert len(calibration_texts(checkpoint, None, 5)) == 4
    assert len(calibration_texts(checkpoint, None, 48)) == 16


def test_a_file_takes_the_place_of_the_runs_data_and_has_to_be_there(checkpoint: Checkpoint, tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    file.write_text("input,target\ngood,my shop\n")
    assert [words(checkpoint, text.ids) for text in calibration_texts(checkpoint, file, 4)] == ["good => my shop"]
    with pytest.raises(DataError, match=r"there is no data file .*none\.csv"):
        calibration_texts(checkpoint, tmp_path / "none.csv", 4)
    for gone in (str(tmp_path / "none.csv"), None):
        recipe = {**checkpoint.card.recipe, "train_file": gone}
        moved = replace(checkpoint, card=replace(checkpoint.card, recipe=recipe))
        assert calibration_texts(moved, None, 4) == []
        assert len(calibration_texts(moved, file, 4)) == 1
