import json
import re

import pytest
from llguidance import LLTokenizer

from serve.errors import InputError
from serve.generation.sampling.embedded_schemas import embedded_schemas, explained_grammar, prepared_grammar
from serve.generation.sampling.schema_worker import compile_schema

BYTES = LLTokenizer("byte")
GRAMMAR = """\
start: "%json {" other | /%json \\/[{]/ // %json {"not": {}}
other[lazy]: "é" %json {"const":
 "other: %json"} | %json {"format": "path", "type": "string"} # %json
!last: %json true
"""


def follows(grammar: str, text: str) -> bool:
    matcher, tokens = compile_schema(json.dumps(grammar), BYTES), BYTES.tokenize_str(text)
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


def test_schemas_are_found_with_their_rules_outside_of_texts_regexes_and_comments() -> None:
    found = [(one.rule, one.schema) for one in embedded_schemas(GRAMMAR)]
    assert found == [
        ("other", {"const": "other: %json"}),
        ("other", {"format": "path", "type": "string"}),
        ("last", True),
    ]


def test_a_prepared_grammar_has_prepared_schemas_and_is_the_same_otherwise() -> None:
    prepared = prepared_grammar(GRAMMAR)
    assert re.sub(r"\s", "", prepared) == re.sub(r"\s", "", GRAMMAR).replace('"format":"path",', "")
    assert prepared_grammar("root ::= [0-9] # %json\n") == "root ::= [0-9] # %json\n"
    grammar = 'start: "a" %json {"type": "string", "format": "path", "const": "b"}'
    assert follows(prepared_grammar(grammar), 'a"b"')


def test_a_schema_that_would_be_rounded_is_refused_by_its_rule() -> None:
    with pytest.raises(InputError, match=r"^grammar\.id has 9007199254740993 at /const, which would be") as refused:
        prepared_grammar('start: id\nid: %json {"const": 9007199254740993}')
    assert refused.value.field == "grammar"


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"oneOf": [{"type": "string", "minLength": 1}, {"type": "string"}]}, " at /oneOf: its alternatives"),
        ({"type": "string", "pattern": "\\bx"}, " at /pattern: look-around"),
        ({"type": "nothing"}, ": Invalid type: nothing"),
    ],
)
def test_a_fault_names_the_rule_of_its_schema(schema: object, told: str) -> None:
    fine = '{"type": "string", "pattern": "x"}'
    grammar = f'start: "a" one | other\none: %json {fine}\nother:  "b" %json {json.dumps(schema)}'
    with pytest.raises(ValueError, match="cannot be followed") as fault:
        compile_schema(json.dumps(grammar), BYTES)
    assert explained_grammar(f"grammar {fault.value}", grammar).startswith(f"grammar.other cannot be followed{told}")


def test_any_other_fault_stays_as_it_is() -> None:
    for fault in ("grammar is no grammar: x", "grammar cannot be followed: at 7(7): failed to compile JSON schema: x"):
        assert explained_grammar(fault, "start: %json {}") == fault
