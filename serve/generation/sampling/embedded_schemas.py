"""JSON schemas inside a grammar in llguidance's dialect of Lark (`rule: %json {…}`), each called by its rule."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from serve.errors import InputError
from serve.generation.sampling.schema_preparation import explained, prepared

FIELD = "grammar"
"""The field of a request that holds the grammar."""
PARTS = re.compile(
    r"^[ \t]*[?!]?(?P<rule>[A-Za-z_]\w*)[^:\n\"/#%]*:"
    r"|//[^\n]*|#[^\n]*|\"(?:\\.|[^\"\\\n])*\"|/(?:\\.|[^/\\\n])+/|(?P<json>%json\s*)",
    re.MULTILINE,
)
"""Beginnings of rules and of schemas, and what may hold the same characters: comments, texts and regexes."""
FAULT = re.compile(r"grammar cannot be followed: at (\d+)\((\d+)\): failed to compile JSON schema: (.*)")
"""llguidance's message about a schema in a grammar, with line and column of the alternative that holds it."""


@dataclass(frozen=True)
class EmbeddedSchema:
    """A schema, and where it is."""

    rule: str
    keyword: int
    """Index of `%json` in the grammar."""
    start: int
    end: int
    schema: Any

    @property
    def name(self) -> str:
        """The schema's name in errors."""
        return f"{FIELD}.{self.rule}"


def embedded_schemas(grammar: str) -> Iterator[EmbeddedSchema]:
    """Yield the schemas of a grammar.

    Raises:
        InputError: What follows `%json` is no JSON.
    """
    place, rule = 0, "start"
    while found := PARTS.search(grammar, place):
        place, rule = found.end(), found["rule"] or rule
        if found["json"]:
            try:
                schema, place = json.JSONDecoder().raw_decode(grammar, found.end())
            except (ValueError, RecursionError) as error:
                raise InputError(f"{FIELD}.{rule} has no JSON behind %json: {error}", FIELD) from error
            yield EmbeddedSchema(rule, found.start(), found.end(), place, schema)


def prepared_grammar(grammar: str) -> str:
    """Return a grammar whose schemas are prepared as any others are.

    Raises:
        InputError: A schema is no JSON, or one that llguidance would not follow exactly.
        RecursionError: A schema is too deep.
    """
    parts, end = [], 0
    for one in embedded_schemas(grammar):
        parts += [grammar[end : one.start], json.dumps(prepared(one.schema, source=one.name))]
        end = one.end
    return "".join([*parts, grammar[end:]])


def explained_grammar(fault: str, grammar: str) -> str:
    """Return llguidance's message about a prepared grammar; that about a schema has the schema's name and places."""
    if (found := FAULT.fullmatch(fault)) is None:
        return fault
    line, column, why = int(found[1]), int(found[2]), found[3]
    begin = sum(len(one) + 1 for one in grammar.split("\n")[: line - 1]) + column - 1
    for one in embedded_schemas(grammar):
        if one.keyword >= begin:
            return explained(f"{one.name} cannot be followed: {why}", one.schema, one.name)
    return fault
