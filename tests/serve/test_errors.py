import pytest

from serve.errors import (
    DeviceLost,
    GenerationFailed,
    InputError,
    as_serve_error,
    device_loss,
    first_line,
    in_client_words,
    shortened,
)
from tests.fixtures.fake_driver import LOST


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one  \ntwo"), "one  "),
        (ValueError(), "ValueError"),
        (ValueError("  "), "ValueError"),
        ("one\ntwo", "one"),
        ("", "no reason given"),
    ],
)
def test_the_first_line_of_an_error_is_its_message_or_its_class(error: Exception | str, line: str) -> None:
    assert first_line(error) == line


def test_a_long_text_is_shortened() -> None:
    assert (shortened("abc", 3), shortened("abcd", 3)) == ("abc", "abc…")


def test_an_error_speaks_of_fields_by_the_clients_names_and_leaves_what_it_quotes() -> None:
    names = {"json_schema": "grammar", "prompts": "inputs"}
    error = InputError('json_schema has "json_schema" at /prompts/json_schema: unknown', "json_schema")
    assert in_client_words(error, names) == ('grammar has "json_schema" at /prompts/json_schema: unknown', "grammar")
    assert in_client_words(InputError("prompts is empty", "prompts"), names) == ("inputs is empty", "inputs")


def test_an_error_of_serving_stays_and_any_other_becomes_a_cause() -> None:
    own, foreign = InputError("own"), ValueError("first\nsecond")
    assert as_serve_error(own, GenerationFailed, "failed") is own
    made = as_serve_error(foreign, GenerationFailed, "it failed")
    assert isinstance(made, GenerationFailed)
    assert (str(made), made.__cause__) == ("it failed: first", foreign)


@pytest.mark.parametrize(
    ("message", "loss"),
    [
        (LOST, "CUDA failure 700: an illegal memory access was encountered"),
        ("CUDA failure 719: unspecified launch failure ; GPU=0", "CUDA failure 719: unspecified launch failure"),
        ("CUDA error 999: unknown error", "CUDA error 999: unknown error"),
        ("CUDA error (46): all devices are busy", "CUDA error (46): all devices are busy"),
        (
            "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0",
            "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED",
        ),
        ("CUDA failure 2: out of memory ; then CUDA failure 700: x", "CUDA failure 700: x"),
        ("CUDA failure 2: out of memory ; GPU=0", None),
        ("CUDA failure 901: operation failed due to a previous error during capture", None),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", None),
        ("Got invalid dimensions for input: input_ids: 700", None),
    ],
)
def test_only_errors_that_end_a_process_use_of_its_gpu_are_a_loss(message: str, loss: str | None) -> None:
    assert device_loss(RuntimeError(message)) == loss


def test_an_error_that_tells_of_a_lost_gpu_is_one_clear_error() -> None:
    cause = RuntimeError(LOST)
    made = as_serve_error(cause, GenerationFailed, "it failed")
    assert isinstance(made, DeviceLost)
    assert made.__cause__ is cause
    assert str(made) == (
        "the GPU failed (CUDA failure 700: an illegal memory access was encountered): this process can use it no more: "
        "start the server again"
    )
