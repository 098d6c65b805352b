import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from adamix_train.errors import DataError, RecipeError
from adamix_train.objectives import OBJECTIVES, objective_of
from adamix_train.recipe import Recipe
from adamix_train.run import train
from adamix_train.tasks.encoding import Encoding, encode_causal, encode_seq2seq
from adamix_train.tasks.examples import Example
from adamix_train.writing import write
from tests.adamix_train.conftest import make_writer


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: make_writer(tmp_path_factory.mktemp(family), family) for family in ("gpt2", "llama", "t5")}


def recipe(base: Path, data: Path, out: Path, **fields: object) -> Recipe:
    return Recipe(
        base=str(base),
        task="generation",
        train_file=str(data),
        test_file=str(data),
        out=str(out),
        validation_share=0.2,
        max_length=24,
        report_to="none",
        batch_size=8,
        **fields,
    )


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_a_model_learns_to_write(family: str, bases: dict[str, Path], writing_data: Path, tmp_path: Path) -> None:
    """All weights are trained: adapters of a random base have nothing to work on."""
    results = train(
        recipe(
            bases[family],
            writing_data,
            tmp_path / "run",
            method="full",
            epochs=80,
            eval_steps=80,
            learning_rate=1e-2,
            max_new_tokens=8,
        )
    )
    assert results["test_rouge_l"] > 0.6
    assert results["test_bleu"] > 30
    lines = [json.loads(line) for line in (tmp_path / "run" / "written.jsonl").read_text().splitlines()]
    assert len(lines) == 16, "one text for each input"
    assert all(len(line["references"]) == 2 for line in lines)


@pytest.mark.parametrize("kind", ["houlsby", "lora"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_a_mixture_lowers_the_loss(
    family: str, kind: str, bases: dict[str, Path], writing_data: Path, tmp_path: Path
) -> None:
    results = train(
        recipe(
            bases[family],
            writing_data,
            tmp_path / "run",
            kind=kind,
            consistency_weight=1.0,
            epochs=3,
            learning_rate=1e-2,
            max_new_tokens=4,
        )
    )
    losses = [entry["eval_loss"] for entry in results["history"] if "eval_loss" in entry]
    assert losses[-1] < losses[0]


@pytest.fixture
def encoding(bases: dict[str, Path]) -> Encoding:
    return encoding_of(bases["llama"])


def encoding_of(base: Path, **fields: object) -> Encoding:
    from adamix_train.base import load_tokenizer

    return Encoding(tokenizer=load_tokenizer(base), max_length=12, prompt="{input} =>", **fields)


def test_the_loss_is_on_the_target_and_the_end_only(encoding: Encoding) -> None:
    (row,) = encode_causal([Example(("parcel good",), "the parcel")], encoding)
    words = encoding.tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert words == ["parcel", "good", "=>", "the", "parcel", "</s>"]
    assert row["labels"] == [-100, -100, -100, *row["input_ids"][3:]]
    logits = torch.randn(1, 6, 30)
    rows, labels = OBJECTIVES["generation"].rows(logits, torch.tensor([row["labels"]]))
    torch.testing.assert_close(rows, logits[0, 2:5])
    assert labels.tolist() == row["input_ids"][3:]


def test_what_is_too_long_loses_the_beginning_of_its_prompt(encoding: Encoding) -> None:
    (row,) = encode_causal([Example(("parcel " * 20 + "good",), "the parcel was fine")], encoding)
    words = encoding.tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert len(words) == 12
    assert words[-7:] == ["good", "=>", "the", "parcel", "was", "fine", "</s>"]
    assert encoding.truncated == [27]


def test_a_target_that_is_too_long_is_cut_and_keeps_a_token_of_the_prompt(encoding: Encoding) -> None:
    (row,) = encode_causal([Example(("good",), "fine " * 20)], encoding)
    assert len(row["input_ids"]) == 12
    assert row["labels"][0] == -100
    assert -100 not in row["labels"][1:]


def test_strict_refuses_what_is_too_long(bases: dict[str, Path]) -> None:
    for family, encode in (("llama", encode_causal), ("t5", encode_seq2seq)):
        with pytest.raises(DataError, match=r"has \d+ tokens and max_length is 12: 'good'"):
            encode([Example(("good",), "fine " * 20)], encoding_of(bases[family], strict=True))


def test_an_encoder_decoder_reads_the_prompt_and_writes_the_target(bases: dict[str, Path]) -> None:
    (row,) = encode_seq2seq([Example(("good",), "fine " * 20)], encoding := encoding_of(bases["t5"]))
    assert encoding.tokenizer.convert_ids_to_tokens(row["input_ids"]) == ["good", "=>", "</s>"]
    assert encoding.tokenizer.convert_ids_to_tokens(row["labels"]) == ["fine"] * 11 + ["</s>"]
    assert objective_of("generation", encoder_decoder=True) is OBJECTIVES["sequence-to-sequence"]


def test_what_is_written_does_not_depend_on_the_rest_of_its_batch(bases: dict[str, Path]) -> None:
    from adamix_train.base import load_base

    model = load_base(bases["llama"], OBJECTIVES["generation"].model).model.eval()
    encoding = encoding_of(bases["llama"])
    encoding.tokenizer.pad_token = encoding.tokenizer.eos_token
    examples = [Example((text,), "x") for text in ("good", "the parcel was bad", "a shop")]
    together = write(model, examples, encoding, batch_size=3, max_new_tokens=5)
    alone = [write(model, [example], encoding, batch_size=1, max_new_tokens=5)[0] for example in examples]
    assert together == alone


def test_a_prompt_that_is_too_long_is_shortened_as_in_training(bases: dict[str, Path]) -> None:
    encoding = encoding_of(bases["llama"])
    seen: list[torch.Tensor] = []

    class Spy:
        config = SimpleNamespace(is_encoder_decoder=False)
        device = torch.device("cpu")

        def generate(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
            seen.append(input_ids)
            return input_ids

    encoding.tokenizer.pad_token = encoding.tokenizer.eos_token
    write(Spy(), [Example(("parcel " * 20 + "good",), "x")], encoding, batch_size=1)
    words = encoding.tokenizer.convert_ids_to_tokens(seen[0][0].tolist())
    assert words == ["parcel"] * 10 + ["good", "=>"]


def test_a_prompt_without_a_place_for_the_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"must contain \{input\}"):
        recipe(tmp_path, tmp_path, tmp_path, prompt="Write:")


def test_a_base_without_a_head_has_none_to_train(bases: dict[str, Path], writing_data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="method head trains a head, and this model has none"):
        train(replace(recipe(bases["llama"], writing_data, tmp_path / "run"), method="head"))
