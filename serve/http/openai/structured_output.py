"""The form of a text: `response_format` of OpenAI and `structured_outputs` of vLLM, as a JSON schema or a grammar."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from pydantic_core import from_json

from serve.errors import InputError
from serve.http.body import Body, FirstError, Strings

ANY_OBJECT: dict[str, Any] = {"type": "object"}
ESCAPES = {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}
"""Parts of a regular expression that a grammar has in another form."""


@dataclass(frozen=True)
class TextForm:
    """A constraint of a text; without either field it is free."""

    json_schema: dict[str, Any] | None = None
    grammar: str | None = None


FREE = TextForm()


class NamedSchema(Body):
    """A JSON schema and its name."""

    name: Annotated[str | None, Field(description="accepted and ignored")] = None
    description: Annotated[str | None, Field(description="accepted and ignored")] = None
    schema_: Annotated[dict[str, Any] | None, FirstError(), Field(alias="schema", description="JSON schema")] = None
    strict: Annotated[bool | None, Field(description="the schema is always followed strictly")] = None


class ResponseFormat(Body):
    """The form of the text: free, any JSON object, or JSON under a schema."""

    type: Annotated[str, Field(pattern="^(text|json_object|json_schema)$", description="text leaves it free")]
    json_schema: NamedSchema | None = None

    def text_form(self) -> TextForm:
        """Return the constraint; a schema is always followed strictly.

        Raises:
            InputError: The schema is missing, or the type has none.
        """
        if self.type == "json_schema":
            if self.json_schema is None or self.json_schema.schema_ is None:
                raise InputError('response_format.json_schema has no schema: {"schema": {…}}', "response_format")
            return TextForm(self.json_schema.schema_)
        if self.json_schema is not None:
            message = f"response_format has json_schema, but its type is {self.type}: give json_schema as the type"
            raise InputError(message, "response_format")
        return TextForm(ANY_OBJECT) if self.type == "json_object" else FREE


class StructuredOutputs(Body):
    """The form of the text, one of these."""

    json_: Annotated[
        str | Annotated[dict[str, Any], FirstError()] | None, Field(alias="json", description="JSON schema")
    ] = None
    regex: Annotated[str | None, Field(description="regular expression that the whole text matches")] = None
    choice: Annotated[Strings | None, Field(description="texts of which it is one")] = None
    grammar: Annotated[str | None, Field(description="grammar in Lark's form, or in GBNF (root ::= …)")] = None
    json_object: Annotated[bool | None, Field(description="any JSON object")] = None

    def text_form(self) -> TextForm:
        """Return the constraint.

        Raises:
            InputError: Not exactly one is given, or it is empty.
        """
        given = {name: value for name, value in dict(self).items() if value not in (None, False)}
        if len(given) != 1:
            names = ", ".join(name.rstrip("_") for name in FORMS)
            raise InputError(f"structured_outputs has {len(given)} of {names}: give one", "structured_outputs")
        ((name, value),) = given.items()
        return FORMS[name](value)


def json_form(schema: str | dict[str, Any], name: str) -> TextForm:
    """Return the form of a JSON schema, given as such or as text; errors call it `name`, which begins with its field.

    Raises:
        InputError: It is no JSON object.
    """
    try:
        found = from_json(schema) if isinstance(schema, str) else schema
    except ValueError as error:
        raise InputError(f"{name} is no JSON: {error}", name.partition(".")[0]) from error
    if not isinstance(found, dict):
        raise InputError(f"{name} is no JSON schema: give an object", name.partition(".")[0])
    return TextForm(found)


def regex_form(pattern: str) -> TextForm:
    """Return the form of a regular expression that the whole text matches."""
    escaped = re.sub(r"\\.|/|\n", lambda found: ESCAPES.get(found[0], found[0]), pattern, flags=re.DOTALL)
    return TextForm(grammar=f"start: /{escaped}/")


def _choice(texts: list[str]) -> TextForm:
    if not texts or not all(texts):
        raise InputError("structured_outputs.choice has no texts, or an empty one", "structured_outputs")
    return TextForm(grammar=f"start: CHOICE\nCHOICE: {' | '.join(map(json.dumps, texts))}")


FORMS: dict[str, Callable[[Any], TextForm]] = {
    "json_": lambda schema: json_form(schema, "structured_outputs.json"),
    "regex": regex_form,
    "choice": _choice,
    "grammar": lambda text: TextForm(grammar=text),
    "json_object": lambda _: TextForm(ANY_OBJECT),
}
"""Constraints by the field that holds them; a new one is an entry here."""
