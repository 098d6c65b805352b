"""The comparison of a bundle with a reference, which here is the bundle's decoder computed by hand."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.importers.mixture import MixtureImporter
from adamix_export.errors import ParityError
from adamix_export.parity.bounds import Bounds, Check
from adamix_export.parity.report import Parity
from adamix_export.tasks.generation_parity import compare
from adamix_export.tasks.reference_logits import CAUSAL, Logits, ModelLayout, TokenLists
from adamix_train.artifacts.checkpoint import Card
from adamix_train.peft_method import AdaMixConfig
from adamix_train.recipe.recipe import Recipe
from serve.bundle.adapter import Adapter
from serve.bundle.reader import Bundle, open_bundle
from serve.errors import InputError
from serve.generation.generator import Generator
from tests.fixtures.hand_computed_decoder import END, random_decoder, write_decoder_bundle
from tests.serve.conftest import BASE

NAME, NEW = "north", 6
ROWS = [("good", "the bill"), ("good", "late"), ("bad", "late"), ("the bill is late", "good good"), ("very", "bad")]
"""Inputs and targets; the first input has two."""
INPUTS = {"good": "the bill", "bad": "late", "the bill is late": "good good", "very": "bad"}
CANARIES = 2
DECODER = random_decoder()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_decoder_bundle(tmp_path / "bundle", DECODER))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "texts.csv"
    file.write_text("\n".join(["input,target", *(f"{source},{target}" for source, target in ROWS)]) + "\n")
    return file


def checkpoint_of(bundle: Bundle, **fields: object) -> Checkpoint:
    """A checkpoint with the bundle's tokenizer, which was trained on prompts without a template."""
    folder = bundle.folder.with_name("run")
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(bundle.tokenizer))).save_pretrained(folder)
    common = {"base": "here", "out": str(folder), "task": "generation", "prompt": "{input}", "max_length": 32}
    recipe = Recipe(**{**common, "max_new_tokens": NEW, **fields})
    card = Card(
        base="here",
        base_sha256=BASE,
        config_sha256=BASE,
        data={},
        task=recipe.task,
        labels=[],
        metric="bleu",
        max_length=recipe.max_length,
        recipe=asdict(recipe),
    )
    return Checkpoint(NAME, folder, card, MixtureImporter(AdaMixConfig(kind="lora")), folder, "generation")


def by_hand(checkpoint: Checkpoint, prompts: TokenLists, tokens: TokenLists) -> Logits:
    return [
        np.stack([DECODER.logits([*prompt, *after[:step]], checkpoint.name) for step in range(len(after))])
        for prompt, after in zip(prompts, tokens, strict=True)
    ]


EXACT = replace(CAUSAL, logits=by_hand)


def report(layout: ModelLayout, bundle: Bundle, check: Check, **fields: object) -> Parity:
    return compare(layout, [checkpoint_of(bundle, **fields)], bundle, check)[NAME]


def perplexity(bundle: Bundle, targets: dict[str, str], *, scale: float = 1.0) -> float:
    """By hand: the exponential of the mean surprise of all tokens of all targets, of logits times `scale`."""
    tokenizer = Tokenizer.from_file(str(bundle.tokenizer))
    surprises = []
    for source, target in targets.items():
        ids = tokenizer.encode(source).ids
        for token in tokenizer.encode(target, add_special_tokens=False).ids:
            logits = scale * DECODER.logits(ids, NAME)
            surprises.append(np.log(np.exp(logits).sum()) - logits[token])
            ids.append(token)
    return float(np.exp(np.mean(surprises)))


def test_a_bundle_that_agrees_has_the_perplexity_of_the_reference(bundle: Bundle, data: Path) -> None:
    found = report(EXACT, bundle, Check(data=data))
    assert (found.rows, found.data, found.equal_labels) == (len(INPUTS) + CANARIES, "texts.csv", 1.0)
    assert found.max_difference < 1e-4
    assert found.metric == "perplexity"
    assert found.pytorch == pytest.approx(perplexity(bundle, INPUTS), rel=1e-5)
    assert found.onnx == pytest.approx(perplexity(bundle, INPUTS), rel=1e-4)
    assert found.passed


def doubled(checkpoint: Checkpoint, prompts: TokenLists, tokens: TokenLists) -> Logits:
    return [2 * logits for logits in by_hand(checkpoint, prompts, tokens)]


def test_sides_that_differ_have_a_perplexity_each(bundle: Bundle, data: Path) -> None:
    found = report(replace(EXACT, logits=doubled), bundle, Check(data=data))
    assert found.pytorch == pytest.approx(perplexity(bundle, INPUTS, scale=2), rel=1e-5)
    assert found.onnx == pytest.approx(perplexity(bundle, INPUTS), rel=1e-4)
    assert found.equal_labels == 1.0
    assert not found.passed


def test_an_input_that_serving_refuses_is_compared_all_the_same(tmp_path: Path, data: Path) -> None:
    """The base has embeddings for 10 tokens, and 'very' is the eleventh."""
    bundle = open_bundle(write_decoder_bundle(tmp_path / "small", DECODER, vocab_size=10))
    with pytest.raises(InputError, match="'very', number 10"):
        Generator(bundle, provider="cpu").prompt("very", NAME)
    found = report(EXACT, bundle, Check(data=data))
    assert (found.rows, found.passed) == (len(INPUTS) + CANARIES, True)


def test_a_limit_counts_inputs_and_not_their_wordings(bundle: Bundle, data: Path) -> None:
    found = report(EXACT, bundle, Check(data=data, limit=2))
    assert found.rows == 2 + CANARIES
    assert found.pytorch == pytest.approx(perplexity(bundle, {"good": "the bill", "bad": "late"}), rel=1e-5)


def test_without_data_the_canaries_alone_are_compared(bundle: Bundle) -> None:
    found = report(EXACT, bundle, Check())
    assert (found.rows, found.data, found.pytorch, found.onnx) == (CANARIES, "canary texts", None, None)
    assert found.passed


def test_a_target_is_cut_to_the_tokens_that_are_generated(bundle: Bundle, data: Path) -> None:
    found = report(EXACT, bundle, Check(data=data), max_new_tokens=1)
    shortened = {source: target.split()[0] for source, target in INPUTS.items()}
    assert found.pytorch == pytest.approx(perplexity(bundle, shortened), rel=1e-5)


OTHER = 4


def swapped(checkpoint: Checkpoint, prompts: TokenLists, tokens: TokenLists) -> Logits:
    """Logits of a reference that writes token OTHER where the bundle ends the text, and the other way round."""
    order = list(range(11))
    order[END], order[OTHER] = OTHER, END
    return [logits[:, order] for logits in by_hand(checkpoint, prompts, tokens)]


@pytest.mark.parametrize("ends", [[END], [END, OTHER]])
def test_texts_are_equal_whichever_end_token_they_end_with(ends: list[int], bundle: Bundle, data: Path) -> None:
    adapter = bundle.adapters[NAME]
    ending = replace(bundle, adapters={NAME: Adapter(replace(adapter.card, eos_token_ids=ends), adapter.tensors)})
    tokenizer = Tokenizer.from_file(str(bundle.tokenizer))
    prompts = [*(tokenizer.encode(source).ids for source in INPUTS), *adapter.card.canary_ids]
    texts = [DECODER.greedy(ids, NAME, NEW) for ids in prompts]
    same = [len(text) == NEW and OTHER not in text for text in texts]
    assert not all(same)
    found = report(replace(EXACT, logits=swapped), ending, Check(data=data))
    assert found.equal_labels == (1.0 if OTHER in ends else np.mean(same))


def test_a_logit_that_is_no_number_is_infinitely_far(
    bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Generator.greedy_logits

    def broken(self: Generator, *arguments: Any, **options: Any) -> tuple[list[list[int]], Logits]:
        tokens, logits = right(self, *arguments, **options)
        logits[0][0, 5] = np.nan
        return tokens, logits

    monkeypatch.setattr(Generator, "greedy_logits", broken)
    found = report(EXACT, bundle, Check(data=data, bounds=Bounds(tolerance=1e9)))
    assert found.max_difference == np.inf
    assert not found.passed


def test_a_prompt_that_the_bundle_makes_otherwise_ends_the_comparison(bundle: Bundle, data: Path) -> None:
    with pytest.raises(ParityError, match="north: the bundle tokenizes 'good' differently from training: 3 tokens, 4"):
        report(EXACT, bundle, Check(data=data), prompt="the {input}")
