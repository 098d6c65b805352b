"""Base models of a few thousand parameters, tasks that they can learn, and runs that train them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from tests.fixtures.tiny_models import tiny_model
from tests.fixtures.training import small_recipe

POSITIVE = ["good", "great", "fine", "lovely"]
NEGATIVE = ["bad", "awful", "poor", "broken"]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *POSITIVE,
    *NEGATIVE,
    "the",
    "a",
    "parcel",
    "shop",
    "it",
    "was",
    "is",
    "my",
]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), seed=0)


def make_base(folder: Path, *, seed: int, dropout: float = 0.1) -> Path:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.08,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


def make_writer(folder: Path, family: str, **settings: object) -> Path:
    """Make a base that writes: a causal model, or an encoder with a decoder."""
    model = tiny_model(family, **settings)
    model.save_pretrained(folder)
    words = ["<pad>", "<unk>", "</s>", *WORDS[4:], "=", ">", "=>"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if family == "t5":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)]
        )
    pad = {"pad_token": "<pad>"} if family == "t5" else {}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", model_max_length=64, **pad
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def writing_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of inputs that are to be written in two wordings."""
    return write_wordings(tmp_path_factory.mktemp("data") / "writing.csv")


def write_wordings(file: Path) -> Path:
    lines = ["input,target"]
    for noun in ("parcel", "shop"):
        for word in (*POSITIVE, *NEGATIVE):
            lines += [f"{noun} {word},the {noun} was {word}", f"{noun} {word},my {noun} is {word}"]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 48 sentences whose label is the tone of one word in them."""
    lines = ["text,label"]
    for noun in ("parcel", "shop"):
        for start in ("the", "my", "a"):
            for label, words in (("positive", POSITIVE), ("negative", NEGATIVE)):
                lines += [f"{start} {noun} was {word},{label}" for word in words]
    file = tmp_path_factory.mktemp("data") / "tone.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="session")
def generative_bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base that generates, for each kind of architecture."""
    return {family: make_writer(tmp_path_factory.mktemp(family), family) for family in ("gpt2", "llama", "t5")}


@pytest.fixture
def recipe(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> Recipe:
    """A small run that has not begun."""
    return small_recipe(tiny_base, tiny_data, tmp_path / "run")


@pytest.fixture(scope="session")
def shared_run(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A finished run of one epoch, which nobody changes."""
    shared = small_recipe(tiny_base, tiny_data, tmp_path_factory.mktemp("shared") / "run", epochs=1)
    train(shared)
    return shared


@pytest.fixture
def finished_run(shared_run: Recipe, tmp_path: Path) -> Recipe:
    """A copy of a finished run of one epoch."""
    shutil.copytree(shared_run.out, tmp_path / "run")
    return replace(shared_run, out=str(tmp_path / "run"))
