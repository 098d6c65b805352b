"""Requests and responses of OpenAI's completions API."""

from typing import Any

import pytest

from serve.errors import InputError
from serve.generated_text import FinishReason, GenerationResult, TokenCandidate, TokenLogprob
from serve.http.openai.completion_messages import CompletionForm, CompletionRequest
from serve.requests import GenerationRequest
from serve.sampling_params import OTHER_NAMES, SamplingParams

SCHEMA = {"type": "object"}


def asked(max_results: int = 8, /, **body: Any) -> GenerationRequest:
    return CompletionRequest.model_validate({"prompt": "good", **body}).generation_request(max_results)


def result(
    text: str, tokens: list[int], prompt_tokens: int, logprobs: tuple[TokenLogprob, ...] = ()
) -> GenerationResult:
    return GenerationResult("north", "0" * 64, text, tokens, FinishReason.STOP, prompt_tokens, logprobs)


def test_a_prompt_alone_is_one_greedy_text_of_the_only_adapter() -> None:
    assert asked() == GenerationRequest(prompts=["good"], adapters=[None], sampling=SamplingParams(stop=[]))


@pytest.mark.parametrize(("name", "right"), OTHER_NAMES.items())
def test_another_servers_name_of_a_field_is_answered_with_ours(name: str, right: str) -> None:
    with pytest.raises(InputError, match=f"^{name} is called {right} here: send it by that name$") as error:
        asked(**{name: 3})
    assert error.value.field == name
    assert asked(**{name: None}) == asked()


def test_openais_fields_become_those_of_sampling() -> None:
    body = {
        "model": "north",
        "prompt": ["good", "bad"],
        "truncate": True,
        "max_tokens": 5,
        "temperature": 0.5,
        "top_k": 3,
        "logit_bias": {"4": -1.5},
        "stop": "bill",
        "seed": 7,
        "n": 2,
        "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
        "user": "ignored",
    }
    sampling = SamplingParams(
        max_new_tokens=5,
        temperature=0.5,
        top_k=3,
        logit_bias={4: -1.5},
        stop=["bill"],
        seed=7,
        n=2,
        json_schema=SCHEMA,
    )
    assert asked(**body) == GenerationRequest(
        prompts=["good", "bad"], adapters=["north", "north"], sampling=sampling, truncate=True
    )


def test_null_is_the_default() -> None:
    assert asked(model=None, temperature=None, stop=None, n=None, response_format=None) == asked()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": []}, "0 prompts with n 1: ask for 1 to 8 texts"),
        ({"prompt": ["good"] * 3, "n": 3}, "3 prompts with n 3: ask for 1 to 8 texts"),
        ({"echo": True, "logprobs": 0, "stream": True}, "the prompt's log probabilities are not streamed"),
        ({"prompt_logprobs": 0, "stream": True}, "the prompt's log probabilities are not streamed"),
        ({"stream_options": {"include_usage": True}}, "stream_options goes with stream: set stream to true"),
        ({"best_of": 3}, "best_of is 3: only the same as n, 1, is supported"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens is 0, which leaves no prompt: give 1 or more"),
        ({"suffix": "end"}, "suffix is not supported"),
        ({"store": True}, "store is True, which is not supported: give False, or leave it out"),
        ({"service_tier": "flex"}, "service_tier is 'flex', which is not supported: give 'auto' or 'default'"),
        ({"add_special_tokens": False}, "add_special_tokens is False, which is not supported: give True"),
        ({"num_beams": 2, "n": 3}, "n is 3: a search with 2 beams has no more results"),
        ({"use_beam_search": True}, "use_beam_search goes with n or num_beams: set one to 2 or more"),
        ({"logprob_token_ids": [4]}, "logprob_token_ids goes with logprobs: set logprobs to 0"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "json_schema has no schema"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked(**body)


def test_fields_that_change_nothing_are_accepted() -> None:
    neutral = {
        "best_of": 1,
        "suffix": "",
        "echo": False,
        "store": False,
        "service_tier": "auto",
        "metadata": {"a": "b"},
        "safety_identifier": "me",
        "prompt_cache_key": "mine",
    }
    neutral |= {"response_format": {"type": "text"}, "seed": -1, "top_k": -1, "user": "me", "add_special_tokens": True}
    assert asked(**neutral, truncate_prompt_tokens=None) == asked()


def test_no_probability_mass_is_the_most_probable_token_alone() -> None:
    assert 0 < asked(top_p=0).sampling.top_p < 1e-6


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("good", ["good"]), (["good", "bad"], ["good", "bad"]), ([4, 5], [[4, 5]]), ([[4], [5, 6]], [[4], [5, 6]])],
)
def test_a_prompt_is_a_text_or_tokens_or_a_list_of_either(prompt: Any, prompts: list[Any]) -> None:
    found = asked(prompt=prompt)
    assert (found.prompts, found.adapters) == (prompts, [None] * len(prompts))


def test_an_echo_with_log_probabilities_asks_for_those_of_the_prompt() -> None:
    assert asked(echo=True, logprobs=2, max_tokens=0).sampling == SamplingParams(
        stop=[], logprobs=2, prompt_logprobs=2, max_new_tokens=0
    )
    assert asked(echo=True).sampling.prompt_logprobs is None


def test_vllms_fields_are_those_of_the_engine() -> None:
    body = {"min_tokens": 2, "max_tokens": 4, "ignore_eos": True, "stop_token_ids": [7], "bad_words": ["bill"]}
    body |= {"allowed_token_ids": [4, 5], "include_stop_str_in_output": True, "skip_special_tokens": False}
    found = asked(**body, truncate_prompt_tokens=3, priority=-1, cache_salt="mine")
    assert found.sampling == SamplingParams(
        stop=[],
        min_new_tokens=2,
        max_new_tokens=4,
        ignore_eos=True,
        stop_token_ids=[7],
        bad_words=["bill"],
        allowed_token_ids=[4, 5],
        include_stop_str_in_output=True,
        skip_special_tokens=False,
    )
    assert (found.max_prompt_tokens, found.truncate, found.priority, found.cache_salt) == (3, False, -1, "mine")
    assert asked(truncate_prompt_tokens=-1).truncate


def test_a_beam_search_has_as_many_beams_as_results_unless_more_are_named() -> None:
    found = [asked(use_beam_search=True, n=3, **more).sampling for more in ({}, {"num_beams": 5}, {"num_beams": 2})]
    assert [(sampling.n, sampling.num_beams) for sampling in found] == [(3, 3), (3, 5), (3, 3)]


def test_a_choice_lists_the_log_probabilities_by_token() -> None:
    top = (TokenCandidate(4, "go", b"go", -0.5), TokenCandidate(6, "ba", b"ba", -1.0))
    logprobs = (TokenLogprob(4, "go", 0, -0.5, top), TokenLogprob(5, "od", 2, -0.25))
    form = CompletionForm(CompletionRequest(prompt="the", logprobs=2))
    found = form.whole([result("good", [4, 5], 3, logprobs)])
    assert found == {
        "id": found["id"],
        "object": "text_completion",
        "created": found["created"],
        "model": "north",
        "choices": [
            {
                "index": 0,
                "text": "good",
                "finish_reason": "stop",
                "logprobs": {
                    "tokens": ["go", "od"],
                    "token_logprobs": [-0.5, -0.25],
                    "top_logprobs": [{"go": -0.5, "ba": -1.0}, {"od": -0.25}],
                    "text_offset": [0, 2],
                },
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    without = CompletionForm(CompletionRequest(prompt="the")).whole([result("good", [4, 5], 3)])
    assert without["choices"][0]["logprobs"] is None
