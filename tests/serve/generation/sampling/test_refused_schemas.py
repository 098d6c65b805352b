import pytest

from serve.errors import InputError
from serve.generation.sampling.refused_schemas import RefusedSchemas, return_memory


def test_a_refusal_is_repeated_for_the_same_schema_and_end_tokens_alone() -> None:
    refused = RefusedSchemas()
    refused.add('{"type": "nothing"}', (0,), InputError("json_schema cannot be followed", "json_schema"))
    with pytest.raises(InputError, match=r"^json_schema cannot be followed$") as error:
        refused.check('{"type": "nothing"}', (0,))
    assert error.value.field == "json_schema"
    refused.check('{"type": "nothing"}', (0, 1))
    refused.check('{"type": "null"}', (0,))


def test_the_oldest_refusals_are_forgotten() -> None:
    refused = RefusedSchemas(most=2)
    for schema in ("a", "b", "a", "c"):
        refused.add(schema, (), InputError(schema))
    assert len(refused.refusals) == 2
    refused.check("b", ())
    for schema in ("a", "c"):
        with pytest.raises(InputError, match=schema):
            refused.check(schema, ())


def test_a_refusal_ends() -> None:
    refused = RefusedSchemas(seconds=0)
    refused.add("a", (), InputError("busy"))
    refused.check("a", ())
    assert not refused.refusals


def test_memory_is_returned_on_any_system() -> None:
    return_memory()
