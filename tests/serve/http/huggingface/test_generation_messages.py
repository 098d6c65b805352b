from typing import Any

import pytest
from pydantic import ValidationError

from serve.errors import InputError
from serve.generated_text import FinishReason, GenerationResult, TextDelta, TokenLogprob
from serve.http.huggingface.generation_messages import GenerationParameters, TextGenerationInput, delta, last, whole
from serve.sampling_params import SamplingParams


def sampling(**parameters: Any) -> SamplingParams:
    return GenerationParameters.model_validate(parameters).sampling_params()


def test_tokens_are_drawn_only_if_an_option_of_sampling_is_given() -> None:
    assert sampling() == SamplingParams(logprobs=0)
    assert sampling(do_sample=False, seed=1) == SamplingParams(seed=1, logprobs=0)
    assert sampling(do_sample=True).temperature == sampling(top_k=4).temperature == 1.0
    assert sampling(temperature=0.5, top_p=0.9) == SamplingParams(temperature=0.5, top_p=0.9, logprobs=0)


def test_a_grammar_is_a_schema_or_a_regular_expression() -> None:
    schema = {"type": "object"}
    assert sampling(grammar={"type": "json", "value": schema}).json_schema == schema
    named = {"type": "json_schema", "value": {"name": "a", "schema": schema}}
    assert sampling(grammar=named).json_schema == schema
    assert sampling(grammar={"type": "regex", "value": "[ab]+"}).grammar == "start: /[ab]+/"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"typical_p": 0.5}, "typical_p is 0.5, which is not supported"),
        ({"best_of": 2}, "best_of is 2"),
        ({"watermark": True}, "watermark is True"),
        ({"grammar": {"type": "json", "value": "{"}}, "^grammar.value is no JSON"),
        ({"grammar": {"type": "json", "value": "3"}}, "^grammar.value is no JSON schema: give an object"),
        ({"grammar": {"type": "regex", "value": {}}}, "^grammar.value of a regex is a text"),
        ({"grammar": {"type": "json", "value": "[" * 30_000}}, "is no JSON: recursion limit exceeded"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
    ],
)
def test_what_is_not_supported_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sampling(**parameters)


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="colour"):
        TextGenerationInput.from_json(b'{"inputs": "a", "parameters": {"colour": 1}}')


def result(reason: FinishReason, text: str = "ab") -> GenerationResult:
    logprobs = [TokenLogprob(5, "a", 0, -0.5), TokenLogprob(6, "b", 1, -0.25)]
    end = TokenLogprob(2, "</s>", 2, -0.125)
    return GenerationResult(
        "north", "0" * 64, text, [5, 6], reason, 3, logprobs, end_logprob=end, prompt_text="before "
    )


@pytest.mark.parametrize(
    ("reason", "stop", "expected"),
    [
        (FinishReason.STOP, None, "eos_token"),
        (FinishReason.STOP, ["b"], "stop_sequence"),
        (FinishReason.LENGTH, ["b"], "length"),
    ],
)
def test_details_say_how_a_text_ended_and_which_tokens_it_has(
    reason: FinishReason, stop: list[str] | None, expected: str
) -> None:
    message = whole(result(reason), GenerationParameters(details=True, stop=stop, return_full_text=True, seed=4))
    details = message["details"]
    assert message["generated_text"] == "before ab"
    assert (details["finish_reason"], details["generated_tokens"], details["seed"]) == (expected, 2, 4)
    assert [(one["id"], one["text"], one["logprob"]) for one in details["tokens"]] == [(5, "a", -0.5), (6, "b", -0.25)]
    assert whole(result(reason), GenerationParameters()) == {"generated_text": "ab"}


def test_events_of_a_stream_have_its_tokens_and_together_its_text() -> None:
    both = result(FinishReason.STOP).logprobs
    events = [*delta(TextDelta("ab", 0, (5, 6), both)), *delta(TextDelta("c"))]
    assert [(one["token"]["id"], one["token"]["text"]) for one in events] == [(5, ""), (6, "ab"), (0, "c")]
    end = last(result(FinishReason.STOP, "abc"), GenerationParameters())
    assert end["generated_text"] == "abc" and end["details"]["finish_reason"] == "eos_token"
    assert end["token"] == {"id": 2, "text": "", "logprob": -0.125, "special": True}
