"""Tokens drawn at random under a guide come to JSON of the schema."""

import json
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from serve.errors import InputError
from serve.guide import Guides

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"enum": ["caf\u00e9", "pub"]},
        "rating": {"type": "integer", "minimum": 1, "maximum": 5},
        "cheap": {"type": "boolean"},
    },
    "required": ["name", "rating", "cheap"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Byte-level, with a few merges, and one token more than the model has logits for is not there."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=290, special_tokens=["<end>"], initial_alphabet=alphabet)
    made.train_from_iterator(['{"name": "pub", "rating": 3, "cheap": true}'] * 4, trainer)
    return made


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_drawn_is_json_of_the_schema(seed: int, tokenizer: Tokenizer) -> None:
    size = tokenizer.get_vocab_size() + 6
    end = tokenizer.token_to_id("<end>")
    guide = Guides(tokenizer, size).guide(SCHEMA, [end])
    random, tokens = np.random.default_rng(seed), []
    while True:
        allowed = guide.allowed()
        assert allowed.shape == (size,) and not allowed[-6:].any()
        token = int(random.choice(np.flatnonzero(allowed)))
        guide.take(token)
        if token == end:
            break
        tokens.append(token)
        assert len(tokens) < 500
    found = json.loads(tokenizer.decode(tokens))
    assert set(found) == {"name", "rating", "cheap"}
    assert found["name"] in ("caf\u00e9", "pub") and 1 <= found["rating"] <= 5 and isinstance(found["cheap"], bool)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "nothing"}, "json_schema cannot be followed"),
        ({"type": {1, 2}}, "json_schema is no JSON schema"),
        ({"$ref": "http://example.org/other.json"}, "json_schema cannot be followed"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused(
    schema: dict[str, Any], message: str, tokenizer: Tokenizer
) -> None:
    with pytest.raises(InputError, match=message):
        Guides(tokenizer, tokenizer.get_vocab_size()).guide(schema, [0])
