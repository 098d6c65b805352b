"""Usage and errors in OpenAI's form."""

from serve.generated_text import FinishReason, GenerationResult
from serve.http.openai.protocol import Usage, error_body
from serve.http.protocol import ErrorKind


def result(text: str, tokens: list[int], prompt_tokens: int) -> GenerationResult:
    return GenerationResult("north", "0" * 64, text, tokens, FinishReason.STOP, prompt_tokens)


def test_usage_counts_a_prompt_once_however_many_texts_it_has() -> None:
    results = [result("a", [4], 3), result("b", [4, 5], 3), result("c", [4, 5, 6], 7), result("", [], 7)]
    assert Usage.of(results, 2) == Usage(prompt_tokens=3 + 7, completion_tokens=1 + 2 + 3, total_tokens=16)


def test_an_error_has_openais_form() -> None:
    kind = ErrorKind(404, "unknown", "invalid_request_error", "model_not_found")
    assert error_body("no such model", kind, "model") == {
        "error": {
            "message": "no such model",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
