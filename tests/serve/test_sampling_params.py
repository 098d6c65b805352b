"""Sampling parameters are checked when they are made."""

import pytest

from serve.errors import InputError
from serve.sampling_params import SamplingParams


def test_one_stop_string_may_be_given_alone() -> None:
    assert SamplingParams(stop="END").stop == ("END",)


def test_a_repetition_that_would_be_sought_at_every_token_is_bounded() -> None:
    assert SamplingParams(no_repeat_ngram_size=128).no_repeat_ngram_size == 128
    with pytest.raises(InputError, match=r"no_repeat_ngram_size is 129: it must be 0 \(off\) to 128"):
        SamplingParams(no_repeat_ngram_size=129)


def test_parameters_that_only_sampling_uses_leave_decoding_greedy() -> None:
    assert SamplingParams().is_greedy and SamplingParams(top_k=3, top_p=0.5, min_p=0.1, stop="x", logprobs=2).is_greedy
    for changed in (
        {"temperature": 1.0},
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"no_repeat_ngram_size": 2},
        {"logit_bias": {1: 1.0}},
        {"json_schema": {}},
    ):
        assert not SamplingParams(**changed).is_greedy  # type: ignore[arg-type]
    assert SamplingParams(temperature=1e-5).is_greedy, "dividing by so little overflows"
    assert SamplingParams(json_schema={}).is_constrained


def test_what_raises_logits_and_what_only_lowers_them() -> None:
    for raising in (
        {"repetition_penalty": 0.9},
        {"presence_penalty": -0.5},
        {"frequency_penalty": -0.5},
        {"logit_bias": {1: -1.0, 2: 0.5}},
    ):
        assert SamplingParams(**raising).raises_logits  # type: ignore[arg-type]
    lowering = SamplingParams(repetition_penalty=1.1, presence_penalty=1.0, logit_bias={1: -1.0}, json_schema={})
    assert lowering.changes_logits and not lowering.raises_logits
    assert not SamplingParams(temperature=1.0, top_k=3).changes_logits


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 1.0},
        {"stop": "x"},
        {"logprobs": 0},
        {"prompt_logprobs": 1},
        {"json_schema": {}},
        {"grammar": "start: /a/"},
        {"min_new_tokens": 2},
        {"allowed_token_ids": [3]},
        {"bad_words": ["x"]},
    ],
)
def test_a_beam_search_names_what_it_goes_without(other: dict[str, object]) -> None:
    (name,) = other
    with pytest.raises(InputError, match=f"^{name}: a beam search goes without, leave out either") as refused:
        SamplingParams(num_beams=2, **other)  # type: ignore[arg-type]
    assert refused.value.field == name
    assert SamplingParams(num_beams=2, temperature=1e-5).num_beams == 2, "which is greedy"
    with pytest.raises(InputError, match=r"^temperature, stop, bad_words: a beam search"):
        SamplingParams(num_beams=2, temperature=1.0, stop="x", bad_words=["x"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens is -1: it must be at least 0"),
        ({"temperature": -1.0}, "temperature is -1.0: it must be 0 or more"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p is 0.0: it must be above 0 and at most 1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"min_p": 1.5}, "min_p is 1.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"presence_penalty": float("nan")}, "presence_penalty is nan"),
        ({"stop": ["x"] * 10_000}, "stop has 10000 strings: give at most 64"),
        ({"stop": [""]}, "none of them empty"),
        ({"logprobs": 21}, "logprobs is 21: it must be 0 to 20"),
        ({"logit_bias": {3: float("nan")}}, "logit_bias has a value that is not a number"),
        ({"seed": -1}, "seed is -1"),
        ({"num_beams": 2, "max_new_tokens": 0}, "a beam search has something to find: max_new_tokens is 0"),
        ({"num_beams": 2, "n": 3}, "n is 3: a search with 2 beams has no more results"),
        ({"min_new_tokens": 3, "max_new_tokens": 2}, "min_new_tokens is 3: it must be 0 to max_new_tokens"),
        ({"ignore_eos": 1}, "ignore_eos is 1: it must be of type bool"),
        ({"ignore_eos": True, "grammar": "start: /a/"}, "ignore_eos goes without json_schema and grammar"),
        ({"json_schema": {}, "grammar": "start: /a/"}, "a text has one constraint"),
        ({"logprob_token_ids": [1]}, "logprob_token_ids goes with logprobs"),
        ({"stop_token_ids": ["x"]}, "stop_token_ids has an entry that is not a token id"),
        ({"bad_words": [""]}, "bad_words has 1 strings: give at most 64, none of them empty"),
        ({"allowed_token_ids": [1] * 300_000}, "allowed_token_ids names 300000 tokens: give at most 262144"),
        ({"length_penalty": 1e300}, "length_penalty is 1e\\+300: it must be from -10 to 10"),
        ({"length_penalty": 0.8}, "length_penalty goes with a beam search: set num_beams to 2 or more"),
        ({"presence_penalty": 2.5}, "presence_penalty is 2.5: it must be from -2 to 2"),
        ({"repetition_penalty": 1e9}, "repetition_penalty is 1000000000.0: it must be from 0.01 to 100"),
        ({"logit_bias": {3: 1e39}}, "not a number from -100 to 100"),
        ({"logit_bias": dict.fromkeys(range(2000), 1.0)}, "logit_bias names 2000 tokens: give at most 1024"),
        ({"logit_bias": {5.5: 1.0}}, "logit_bias has an entry that is not a token id"),
        ({"stop": ["x" * 300]}, "a string of more than 256 characters"),
        ({"stop": [b"x"]}, "an entry that is not a string"),
        ({"top_k": 2.5}, "top_k is 2.5: it must be of type int"),
        ({"n": True}, "n is True: it must be of type int"),
        ({"temperature": "warm"}, "temperature is 'warm': it must be of type float"),
    ],
)
def test_parameters_out_of_range_are_refused(asked: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SamplingParams(**asked)  # type: ignore[arg-type]
