from typing import Any

import pytest

from serve.engine import FinishReason, GenerationResult, TokenLogprob
from serve.errors import InputError
from serve.http.openai.protocol import Choice, Completion, CompletionRequest, Usage, error_body
from serve.http.protocol import ErrorKind
from serve.requests import GenerationRequest
from serve.sampling_params import SamplingParams

SCHEMA = {"type": "object"}


def asked(max_results: int = 8, /, **body: Any) -> GenerationRequest:
    return CompletionRequest.model_validate({"prompt": "good", **body}).generation_request(max_results)


def result(
    text: str, tokens: list[int], prompt_tokens: int, logprobs: tuple[TokenLogprob, ...] = ()
) -> GenerationResult:
    return GenerationResult("north", "0" * 64, text, tokens, FinishReason.STOP, prompt_tokens, logprobs)


def test_a_prompt_alone_is_one_greedy_text_of_the_only_adapter() -> None:
    assert asked() == GenerationRequest(prompts=["good"], adapters=[None], sampling=SamplingParams(stop=[]))


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
        ({"prompt": ["good"] * 2, "stream": True}, "2 prompts: a stream has one text"),
        ({"logprobs": 0, "stream": True}, "logprobs are not supported in streams"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "json_schema has no schema"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked(**body)


def test_a_choice_lists_the_log_probabilities_by_token() -> None:
    logprobs = (TokenLogprob(4, "go", 0, -0.5, (("go", -0.5), ("ba", -1.0))), TokenLogprob(5, "od", 2, -0.25))
    choice = Choice.of(1, result("good", [4, 5], 3, logprobs))
    assert choice.model_dump() == {
        "index": 1,
        "text": "good",
        "finish_reason": "stop",
        "logprobs": {
            "tokens": ["go", "od"],
            "token_logprobs": [-0.5, -0.25],
            "top_logprobs": [{"go": -0.5, "ba": -1.0}, {}],
            "text_offset": [0, 2],
        },
    }
    assert Choice.of(0, result("good", [4, 5], 3)).logprobs is None


def test_usage_counts_a_prompt_once_however_many_texts_it_has() -> None:
    results = [result("a", [4], 3), result("b", [4, 5], 3), result("c", [4, 5, 6], 7), result("", [], 7)]
    assert Usage.of(results, 2) == Usage(prompt_tokens=3 + 7, completion_tokens=1 + 2 + 3, total_tokens=16)


def test_a_completion_and_an_error_have_openais_form() -> None:
    completion = Completion(id="cmpl-1", created=9, model="north", choices=[Choice.of(0, result("good", [4], 3))])
    assert completion.model_dump() == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 9,
        "model": "north",
        "choices": [{"index": 0, "text": "good", "finish_reason": "stop", "logprobs": None}],
        "usage": None,
    }
    kind = ErrorKind(404, "unknown", "invalid_request_error", "model_not_found")
    assert error_body("no such model", kind, "model") == {
        "error": {
            "message": "no such model",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
