import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from adamix_train.data.encoding import Encoding, encode_causal, encode_seq2seq
from adamix_train.data.examples import Example
from adamix_train.errors import BaseError, DataError, RecipeError
from adamix_train.evaluation.generate import generate, make_prompts
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.objectives import OBJECTIVES, objective_of
from tests.adamix_train.conftest import NEGATIVE, POSITIVE, make_writer


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
        report_to="none",
        **{"max_length": 24, "batch_size": 8, "max_new_tokens": 8, **fields},
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
    lines = [json.loads(line) for line in (tmp_path / "run" / "generated.jsonl").read_text().splitlines()]
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
    from adamix_train.base_model.load import load_tokenizer

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
    from adamix_train.base_model.load import load_base

    model = load_base(bases["llama"], OBJECTIVES["generation"].model).model.eval()
    encoding = encoding_of(bases["llama"])
    encoding.tokenizer.pad_token = encoding.tokenizer.eos_token
    examples = [Example((text,), "x") for text in ("good", "the parcel was bad", "a shop")]
    prompts = make_prompts(examples, encoding, encoder_decoder=False)
    together = generate(model, prompts, encoding.tokenizer, batch_size=3, max_new_tokens=5)
    alone = [
        generate(model, [prompt], encoding.tokenizer, batch_size=1, max_new_tokens=5)[0] for prompt in reversed(prompts)
    ]
    assert together == alone[::-1]


def test_a_written_text_keeps_its_spaces_as_it_is_served(bases: dict[str, Path]) -> None:
    encoding = encoding_of(bases["llama"])
    encoding.tokenizer.pad_token = "</s>"
    encoding.tokenizer.add_tokens(["."])
    encoding.tokenizer.clean_up_tokenization_spaces = True
    ids = encoding.tokenizer("the parcel .")["input_ids"]
    assert encoding.tokenizer.decode(ids) == "the parcel."

    class Echo:
        """Writes one text, whatever the prompt."""

        config, device = SimpleNamespace(is_encoder_decoder=False), torch.device("cpu")

        def generate(self, input_ids: torch.Tensor, **settings: object) -> torch.Tensor:
            return torch.cat([input_ids, torch.tensor([ids])], 1)

    prompts = make_prompts([Example(("good",), "")], encoding, encoder_decoder=False)
    (written,) = generate(Echo(), prompts, encoding.tokenizer, batch_size=1)
    assert written.text == encoding.tokenizer.backend_tokenizer.decode(ids) == "the parcel ."


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
    prompts = make_prompts([Example(("parcel " * 20 + "good",), "x")], encoding, encoder_decoder=False)
    generate(Spy(), prompts, encoding.tokenizer, batch_size=1)
    words = encoding.tokenizer.convert_ids_to_tokens(seen[0][0].tolist())
    assert words == ["parcel"] * 10 + ["good", "=>"]
    assert encoding.truncated == [22]


def test_what_cannot_be_written_is_told_before_training(
    bases: dict[str, Path], tiny_base: Path, writing_data: Path, tmp_path: Path
) -> None:
    long = tmp_path / "long.csv"
    long.write_text("input,target\n" + "parcel " * 30 + ",the parcel\n")
    given = recipe(bases["llama"], writing_data, tmp_path / "run")
    for changes, error, message in (
        ({"max_new_tokens": 62}, RecipeError, "the longest prompt has 3 tokens, and this base has 64 positions"),
        ({"test_file": str(long), "strict": True}, DataError, "has 31 tokens and max_length is 24"),
        ({"base": str(tiny_base)}, BaseError, "is a bert, an encoder, which cannot generate"),
    ):
        with pytest.raises(error, match=message):
            train(replace(given, **changes))
        assert not (tmp_path / "run").exists()


def test_without_test_data_a_model_writes_on_the_validation_data(
    bases: dict[str, Path], writing_data: Path, tmp_path: Path
) -> None:
    given = recipe(bases["llama"], writing_data, tmp_path / "run", epochs=1, method="full")
    results = train(replace(given, test_file=None))
    assert 0 <= results["bleu"] <= 100
    assert "test_bleu" not in results


def test_a_step_of_several_batches_is_the_step_of_one(bases: dict[str, Path], tmp_path: Path) -> None:
    """The loss is a mean over the tokens of the whole step, whose batches have different numbers of them."""
    lines = [f"parcel {word},{'the parcel was ' * (index + 1)}{word}" for index, word in enumerate(POSITIVE + NEGATIVE)]
    (tmp_path / "d.csv").write_text("\n".join(["input,target", *lines]) + "\n")
    given = recipe(
        bases["llama"], tmp_path / "d.csv", tmp_path / "one", max_length=48, method="full", epochs=4, learning_rate=1e-3
    )
    train(replace(given, batch_size=4))
    train(replace(given, batch_size=1, gradient_accumulation=4, out=str(tmp_path / "four")))
    one, four = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "four"))
    start = load_file(bases["llama"] / "model.safetensors")
    for name in one:
        torch.testing.assert_close(four[name], one[name], atol=2e-4, rtol=0)
    assert max(float((one[name] - start[name]).abs().max()) for name in one) > 3e-3


def test_a_prompt_without_a_place_for_the_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"must contain \{input\}"):
        recipe(tmp_path, tmp_path, tmp_path, prompt="Write:")


def test_a_base_without_a_head_has_none_to_train(bases: dict[str, Path], writing_data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="method head trains a head, and this model has none"):
        train(replace(recipe(bases["llama"], writing_data, tmp_path / "run"), method="head"))
