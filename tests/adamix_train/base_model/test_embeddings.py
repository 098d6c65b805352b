import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from adamix_train.base_model.embeddings import UNLIMITED, check_embeddings, max_positions
from adamix_train.errors import BaseError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}
FAMILIES = [
    ("bert", {}, 20),
    ("electra", {"embedding_size": 16}, 20),
    ("roberta", {"pad_token_id": 1}, 18),
    ("roberta", {"pad_token_id": 3}, 16),
    ("roberta", {"pad_token_id": 0}, 19),
    ("xlm-roberta", {"pad_token_id": 4}, 15),
    ("camembert", {"pad_token_id": 1}, 18),
    ("mpnet", {"pad_token_id": 0}, 18),
    ("longformer", {"pad_token_id": 1, "attention_window": 4}, 18),
]


def tiny(family: str, **settings: Any) -> PreTrainedModel:
    return AutoModel.from_config(AutoConfig.for_model(family, **{**SMALL, **settings})).eval()


@pytest.mark.parametrize(("family", "settings", "most"), FAMILIES)
def test_a_base_takes_as_many_tokens_as_pytorch_and_not_one_more(
    family: str, settings: dict[str, Any], most: int
) -> None:
    model = tiny(family, **settings)
    assert max_positions(model.config) == most
    model(input_ids=torch.full((1, most), 10))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, most + 1), 10))


def test_relative_positions_have_no_end() -> None:
    assert max_positions(AutoConfig.for_model("t5")) == UNLIMITED


@pytest.fixture
def tokenizer(tiny_base: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_base)


def fails(model: PreTrainedModel, inputs: Any) -> bool:
    try:
        model(**inputs)
    except IndexError:
        return True
    return False


@pytest.mark.parametrize("added", [0, 1, 2, 5])
def test_a_token_without_an_embedding_is_refused_as_pytorch_refuses_it(
    tokenizer: PreTrainedTokenizerBase, added: int
) -> None:
    model = tiny("bert", vocab_size=len(tokenizer) + 1)
    tokens = [f"<{index}>" for index in range(added)]
    tokenizer.add_tokens(tokens)
    if fails(model, tokenizer("good " + " ".join(tokens), return_tensors="pt")):
        with pytest.raises(BaseError, match=r"has tokens without an embedding: '<1>' \(\d+\).*has 21 embeddings"):
            check_embeddings(tokenizer, model.config, base="here")
        assert added > 1
    else:
        check_embeddings(tokenizer, model.config, base="here")
        assert added < 2


@pytest.mark.parametrize("types", [1, 2])
@pytest.mark.parametrize("pairs", [False, True])
def test_a_token_type_without_an_embedding_is_refused_as_pytorch_refuses_it(
    tokenizer: PreTrainedTokenizerBase, types: int, pairs: bool
) -> None:
    tokenizer.backend_tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    model = tiny("bert", type_vocab_size=types)
    failed = fails(model, tokenizer(*["good"] * (1 + pairs), return_tensors="pt"))
    assert failed == (pairs and types == 1)
    if failed:
        with pytest.raises(BaseError, match=r"gives token type 1 to a pair; the base has 1 \(type_vocab_size\)"):
            check_embeddings(tokenizer, model.config, base="here", pairs=pairs)
    else:
        check_embeddings(tokenizer, model.config, base="here", pairs=pairs)


def test_a_run_on_such_a_base_ends_before_it_begins(
    tiny_base: Path, tiny_data: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    tokenizer.add_tokens(["<user>"])
    tokenizer.save_pretrained(base)
    with pytest.raises(BaseError, match=r"'<user>' \(20\); the base has 20 embeddings: add rows"):
        train(Recipe(base=str(base), train_file=str(tiny_data), out=str(tmp_path / "run"), max_length=16))
    assert not (tmp_path / "run").exists()


def test_roberta_has_positions_that_no_token_takes() -> None:
    assert max_positions(AutoConfig.for_model("roberta", max_position_embeddings=514)) == 512
    assert max_positions(AutoConfig.for_model("bert", max_position_embeddings=512)) == 512
