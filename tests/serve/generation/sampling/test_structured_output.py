"""Tokens drawn at random under a state come to JSON of the schema."""

import contextlib
import json
import time
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from serve.errors import InputError
from serve.generation.sampling import structured_output
from serve.generation.sampling.structured_output import GrammarCache, GrammarState

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
    state = GrammarCache(tokenizer, size).compile(SCHEMA, [end]).start()
    random, tokens = np.random.default_rng(seed), []
    while True:
        allowed = state.allowed()
        assert allowed.shape == (size,) and not allowed[-6:].any()
        token = int(random.choice(np.flatnonzero(allowed)))
        state.accept(token)
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
        ({"$ref": "#"}, "json_schema cannot be followed at /\\$ref: the reference leads back"),
        ({"enum": ["x" * 70_000]}, "json_schema has 70014 characters: give at most 64000"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused(
    schema: dict[str, Any], message: str, tokenizer: Tokenizer
) -> None:
    with pytest.raises(InputError, match=message):
        GrammarCache(tokenizer, tokenizer.get_vocab_size()).compile(schema, [0]).start()


COSTLY = {"type": "string", "pattern": "^([xy]((a{1000}){1000}){1000}|z)$"}
"""The third token of most texts costs too much, but not of all."""


def follow(state: GrammarState, count: int) -> None:
    for _ in range(count):
        state.accept(int(np.flatnonzero(state.allowed())[0]))


def test_a_schema_that_becomes_too_much_is_told_and_not_taken_for_whole_json(tokenizer: Tokenizer) -> None:
    """llguidance then allows the end alone."""
    end = tokenizer.token_to_id("<end>")
    made = GrammarCache(tokenizer, tokenizer.get_vocab_size())
    with pytest.raises(InputError, match="json_schema cannot be followed"):
        follow(made.compile({"type": "string", "pattern": "^(a{1000}){1000}$"}, [end]).start(), 50)
    with pytest.raises(InputError, match="json_schema cannot be followed"):
        follow(made.compile(COSTLY, [end]).start(), 3)


def test_a_text_that_becomes_too_much_leaves_the_schema_to_later_ones(tokenizer: Tokenizer) -> None:
    made = GrammarCache(tokenizer, tokenizer.get_vocab_size())
    first = made.compile(COSTLY, [0])
    with pytest.raises(InputError, match="json_schema cannot be followed"):
        follow(first.start(), 3)
    later = made.compile(COSTLY, [0])
    assert later is not first
    assert len(made.grammars) == 1
    follow(later.start(), 2)


@pytest.mark.parametrize(
    "constraint",
    [
        "start: /(((a{1000}){1000}){1000})/",
        "start: /[xy](((a{1000}){1000}){1000})/",
        {"type": "string", "pattern": "^[xy]((a{1000}){1000}){1000}$"},
    ],
)
def test_what_no_text_can_follow_is_compiled_in_the_other_process_alone_and_once(
    constraint: str | dict[str, Any], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = GrammarCache(tokenizer, tokenizer.get_vocab_size())
    tried = Mock(wraps=made.trials.run)
    monkeypatch.setattr(made.trials, "run", tried)
    monkeypatch.setattr(structured_output, "compile_schema", lambda *_: pytest.fail("compiled in the server"))
    for _ in range(3):
        with pytest.raises(InputError, match=r"cannot be followed: .*too many expressions constructed$") as refused:
            made.compile(constraint, [0])
        assert refused.value.field == ("grammar" if isinstance(constraint, str) else "json_schema")
    assert tried.call_count == 1 and not made.compiling


@pytest.mark.parametrize("pattern", ["^a{100000}$", "^((a{1000}){1000}){1000}$", COSTLY["pattern"], "^(ab|c){9000}$"])
def test_a_step_is_short_whatever_the_schema(pattern: str, tokenizer: Tokenizer) -> None:
    """All rows wait for it. Counted in CPU time, since others may run here."""
    made = GrammarCache(tokenizer, tokenizer.get_vocab_size())
    with contextlib.suppress(InputError):
        state = made.compile({"type": "string", "pattern": pattern}, [0]).start()
        for _ in range(20):
            before = time.thread_time()
            allowed = state.allowed()
            state.accept(int(np.flatnonzero(allowed)[0]))
            assert time.thread_time() - before < 0.3


def test_a_schema_is_read_once_and_its_texts_are_apart(tokenizer: Tokenizer) -> None:
    made = GrammarCache(tokenizer, tokenizer.get_vocab_size())
    one, other = (made.compile(SCHEMA, [0]).start() for _ in range(2))
    assert len(made.grammars) == 1
    before = other.allowed()
    one.accept(int(np.flatnonzero(one.allowed())[0]))
    np.testing.assert_array_equal(other.allowed(), before)
    for number in range(40):
        made.compile({"const": number}, [0])
    assert len(made.grammars) <= 16


def test_json_is_laid_out_in_one_way_unless_the_schema_says_otherwise(tokenizer: Tokenizer) -> None:
    made = GrammarCache(tokenizer, tokenizer.get_vocab_size())
    blanks = tokenizer.encode("\n").ids

    def may_begin_blank(schema: dict[str, Any]) -> bool:
        state = made.compile(schema, [0]).start()
        state.accept(tokenizer.token_to_id("{"))
        return bool(state.allowed()[blanks].all())

    assert not may_begin_blank(SCHEMA)
    assert may_begin_blank({**SCHEMA, "x-guidance": {"whitespace_flexible": True}})
