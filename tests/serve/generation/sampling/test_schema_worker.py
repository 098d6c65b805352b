import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import llguidance
import pytest

from serve.generation.sampling import schema_worker
from serve.generation.sampling.schema_worker import MAX_REASON_LENGTH, compile_schema, first_line

PACKAGES = str(Path(llguidance.__file__).parents[1])
CHEAP = {"type": "object", "properties": {"cheap": {"type": "boolean"}, "stars": {"type": "integer"}}}
ENDLESS = {"allOf": [{"type": "string", "pattern": f".*a{number}.*"} for number in range(20)]}
"""A text that all of these patterns allow is sought among some 2^20."""


@pytest.fixture(scope="module")
def bytes_tokenizer() -> Any:
    return llguidance.LLTokenizer("byte")


def follows(schema: dict[str, Any], text: str, tokenizer: Any) -> bool:
    """Whether a text can be generated from its beginning to its end."""
    matcher, tokens = compile_schema(json.dumps(schema), tokenizer), tokenizer.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def test_the_text_is_laid_out_as_json_dumps_does_unless_the_schema_says_otherwise(bytes_tokenizer: Any) -> None:
    value = {"cheap": True, "stars": 3}
    compact = json.dumps(value, separators=(",", ":"))
    assert follows(CHEAP, json.dumps(value), bytes_tokenizer)
    assert not follows(CHEAP, compact, bytes_tokenizer)
    assert not follows(CHEAP, json.dumps(value).replace("{", "{ "), bytes_tokenizer)
    assert not follows(CHEAP, json.dumps({"cheap": "yes", "stars": 3}), bytes_tokenizer)
    own = {**CHEAP, "x-guidance": {"item_separator": ",", "key_separator": ":"}}
    assert follows(own, compact, bytes_tokenizer)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("{", "^is no JSON schema: "),
        ('{"type": "nothing"}', "^cannot be followed: .*nothing"),
        (json.dumps("root ::= ("), "^is no grammar: "),
        (json.dumps("start: ("), "^cannot be followed: |^is no grammar: "),
        (json.dumps({"enum": [f"value {number}" for number in range(20_000)]}), "^cannot be followed: "),
    ],
)
def test_a_fault_of_a_schema_is_said_in_one_line(schema: str, message: str, bytes_tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        compile_schema(schema, bytes_tokenizer)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_of_a_message_the_first_line_is_quoted_up_to_a_length() -> None:
    assert first_line("\n  too large \nat line 3") == "too large "
    assert first_line(" \n ") == "no reason given"
    assert first_line("x" * 1000) == "x" * MAX_REASON_LENGTH


def worker(lines: list[str], seconds: str = "60") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", schema_worker.__file__, PACKAGES, seconds, "512"]
    return subprocess.run(command, input="".join(f"{line}\n" for line in lines), capture_output=True, text=True)


def test_a_process_replies_to_each_line_with_the_fault_of_its_schema_and_ends_with_them() -> None:
    grammars = [json.dumps('root ::= "yes" | "no"'), json.dumps("root ::= (")]
    result = worker([json.dumps(CHEAP), '{"type": "nothing"}', "{", *grammars, json.dumps(CHEAP)])
    assert (result.returncode, result.stderr) == (0, "")
    fine, unknown, broken, grammar, no_grammar, again = map(json.loads, result.stdout.splitlines())
    assert fine == grammar == again == ""
    assert no_grammar.startswith("is no grammar: ")
    assert unknown.startswith("cannot be followed: ")
    assert broken.startswith("is no JSON schema: ")


@pytest.mark.parametrize(
    ("grammar", "fault"),
    [
        ("start: /(((a{1000}){1000}){1000})/", "too many expressions constructed"),
        ("start: /[xy](((a{1000}){1000}){1000})/", "too many expressions constructed"),
        ("start: /yes+|(((a{1000}){1000}){1000})/", ""),
        ("start: /a+|(((y{1000}){1000}){1000})/", ""),
        ('start: "yes" | "no"', ""),
        ("start: /a{100}/", ""),
        ('start: ""', ""),
    ],
)
def test_the_beginnings_of_texts_are_tried(grammar: str, fault: str) -> None:
    (reply,) = map(json.loads, worker([json.dumps(grammar)]).stdout.splitlines())
    assert reply == (fault and f"cannot be followed: lexer error: {fault}")


def test_a_schema_beyond_its_time_ends_the_process_after_the_replies_before() -> None:
    result = worker([json.dumps(CHEAP), json.dumps(ENDLESS), json.dumps(CHEAP)], seconds="0.3")
    assert result.returncode == -signal.SIGPROF
    assert result.stdout == '""\n'


def test_a_process_imports_llguidance_alone() -> None:
    script = f"""
import runpy, sys
sys.argv[1:] = [{PACKAGES!r}, "1", "512"]
runpy.run_path({schema_worker.__file__!r}, run_name="__main__")
print(*{{name.partition(".")[0] for name in sys.modules}} - {{*sys.stdlib_module_names, "__main__"}})
"""
    command = [sys.executable, "-I", "-S", "-c", script]
    result = subprocess.run(command, input="", capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["llguidance"]
