"""Parameters of a request for texts, as clients of Triton and KServe send them."""

from dataclasses import fields
from typing import Any

import pytest

from serve.errors import InputError
from serve.oip.parameters import KNOWN, SAMPLING, WITHOUT_OUTPUT, generation_options, merged
from serve.sampling_params import OTHER_NAMES, SamplingParams


def test_sampling_parameters_have_the_names_of_completions() -> None:
    given = {"max_tokens": 7, "min_tokens": 2, "temperature": 0.5, "top_k": 3, "seed": 1, "ignore_eos": True, "n": 2}
    expected = SamplingParams(
        max_new_tokens=7, min_new_tokens=2, temperature=0.5, top_k=3, seed=1, ignore_eos=True, n=2
    )
    assert generation_options(given).sampling == expected
    assert set(SAMPLING.values()) == {one.name for one in fields(SamplingParams)} - set(WITHOUT_OUTPUT)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"stop": "\n"}, {"stop": ["\n"]}),
        ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"bad_words": [""], "stop_words": [""]}, {}),
        ({"bad_words": "", "stop_words": "end"}, {"stop": ["end"]}),
        ({"stop_token_ids": "[1, 2]"}, {"stop_token_ids": [1, 2]}),
        ({"logit_bias": {"4": -100}}, {"logit_bias": {4: -100}}),
        ({"logit_bias": '{"4": 1.5}'}, {"logit_bias": {4: 1.5}}),
        ({"json_schema": '{"type": "object"}'}, {"json_schema": {"type": "object"}}),
        ({"sampling_parameters": '{"max_tokens": 3}', "top_k": 1}, {"max_new_tokens": 3, "top_k": 1}),
        ({"sampling_parameters": ""}, {}),
        ({"top_k": -1, "top_p": 0, "seed": -1}, {"top_p": 1e-9}),
        ({"stop": None, "max_tokens": None}, {}),
        ({"exclude_input_in_output": True, "best_of": 1}, {}),
    ],
)
def test_values_come_in_the_forms_that_clients_have(given: dict[str, Any], expected: dict[str, Any]) -> None:
    options = generation_options(given)
    assert options.sampling == SamplingParams(**expected)
    assert options.request == {}


def test_the_request_has_parameters_of_its_own() -> None:
    given = {"truncate": True, "truncate_prompt_tokens": 9, "priority": 3, "cache_salt": "x"}
    expected = {"truncate": True, "max_prompt_tokens": 9, "priority": 3, "cache_salt": "x"}
    assert generation_options(given).request == expected
    assert generation_options({"truncate_prompt_tokens": -1}).request == {"truncate": True}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"colour": 1}, "unknown parameter 'colour'; known are max_tokens, min_tokens, temperature"),
        ({"logprobs": 1}, "unknown parameter 'logprobs': no output has log probabilities, ask /v1/completions"),
        ({"x" * 5000: 1}, "unknown parameter 'xxx"),
        ({"max_tokens": -1}, "max_tokens is -1: it must be at least 0"),
        ({"max_tokens": 4, "min_tokens": 5}, "min_tokens is 5: it must be 0 to max_tokens"),
        ({"max_tokens": "7"}, "max_tokens is '7': it must be of type int"),
        ({"max_tokens": True}, "max_tokens is True: it must be of type int"),
        ({"top_p": False}, "top_p is False: it must be of type float"),
        ({"temperature": -1.0}, "temperature is -1.0: it must be 0 or more"),
        ({"stop_words": ["a"] * 65}, "stop_words has 65 strings"),
        ({"stop": ["a"], "stop_words": ["b"]}, "parameter stop is given twice"),
        ({"sampling_parameters": '{"top_k": 1}', "top_k": 1}, "parameter top_k is given twice"),
        ({"sampling_parameters": "{"}, "parameter sampling_parameters is not JSON"),
        ({"sampling_parameters": "[1]"}, "parameter sampling_parameters is [1]: give an object, or its JSON"),
        ({"sampling_parameters": {"sampling_parameters": {}}}, "unknown parameter 'sampling_parameters'"),
        ({"stop_token_ids": "1"}, "parameter stop_token_ids is 1: give a list, or its JSON"),
        ({"stop_token_ids": ["1"]}, "stop_token_ids has an entry that is not a token id"),
        ({"stop": 3}, "stop is 3: it must be of type Sequence"),
        ({"stop": [3]}, "stop has an entry that is not a string"),
        ({"logit_bias": {"a": 1}}, "logit_bias has the key 'a', which is not a token id"),
        ({"logit_bias": {"": 1}}, "logit_bias has the key '', which is not a token id"),
        ({"": 1}, "unknown parameter ''"),
        ({"sampling_parameters": {"": 1}}, "unknown parameter ''"),
        ({"sampling_parameters": 0}, "parameter sampling_parameters is 0: give an object, or its JSON"),
        ({"sampling_parameters": []}, "parameter sampling_parameters is []: give an object, or its JSON"),
        ({"logit_bias": {"9" * 5000: 1}}, "which is not a token id"),
        ({"logit_bias": {"1": "x"}}, "logit_bias has a value that is not a number from -100 to 100"),
        ({"json_schema": [1]}, "parameter json_schema is [1]: give an object, or its JSON"),
        ({"truncate": 1}, "parameter truncate is 1: it must be of type bool"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens is 0: give 1 or more, or -1"),
        ({"exclude_input_in_output": False}, "parameter exclude_input_in_output is False: give true, or leave it out"),
        ({"best_of": 2}, "parameter best_of is 2: give 1, or leave it out"),
    ],
)
def test_a_parameter_that_is_wrong_is_told_why(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        generation_options(given)
    assert message in str(error.value)
    assert len(str(error.value)) < 1200


def test_a_parameter_in_two_places_is_refused_whatever_its_name() -> None:
    for name in ("top_k", ""):
        with pytest.raises(InputError, match=f"parameter {name} is given twice"):
            merged({name: 1}, {name: 1})


def test_another_servers_name_of_a_parameter_is_answered_with_ours() -> None:
    for name, right in OTHER_NAMES.items():
        if name in KNOWN:
            continue
        with pytest.raises(InputError, match=f"unknown parameter '{name}': it is called {right} here"):
            generation_options({name: 1})


def test_a_deep_schema_is_refused() -> None:
    with pytest.raises(InputError, match="parameter json_schema is not JSON"):
        generation_options({"json_schema": "[" * 100_000})
