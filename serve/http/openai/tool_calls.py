"""Tool calls: functions that a model may call, constrained by their schemas and read from its text."""

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import from_json

from serve.engine import Engine, ToolForm
from serve.errors import InputError, shortened
from serve.http.body import Body, FirstError
from serve.http.openai.structured_output import FREE, TextForm

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
JSON_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Layout of the arguments; a model may otherwise generate blanks only."""
PARAMETERS = "parameters_{}"
"""Rule of a function's arguments, by its place among the tools."""
CONTENT = "text_form"
"""Rule of a text that is no call, where it has a form."""
MAX_NAME = 64


class Function(Body):
    """A function that the model may call."""

    name: Annotated[str, Field(pattern=f"^[a-zA-Z0-9_.-]{{1,{MAX_NAME}}}$")]
    description: str | None = None
    parameters: Annotated[
        dict[str, Any] | None, FirstError(), Field(description="JSON schema; without one it takes no arguments")
    ] = None
    strict: Annotated[bool | None, Field(description="arguments always follow the schema")] = None

    def arguments_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the arguments, which are an object.

        Raises:
            InputError: It is that of anything else.
        """
        given = self.parameters or NO_ARGUMENTS
        if (kind := given.get("type", "object")) != "object":
            quoted = shortened(json.dumps(kind), MAX_NAME)
            raise InputError(f"the parameters of {self.name} are of type {quoted}: give object", "tools")
        return {"type": "object", **given}


class Tool(Body):
    """A tool."""

    type: Literal["function"]
    function: Function

    def for_template(self) -> dict[str, Any]:
        """Return the tool as templates take it."""
        return {"type": "function", "function": self.function.model_dump(exclude_none=True, exclude={"strict"})}


class CalledFunction(Body):
    """A function that was called."""

    name: str
    arguments: str
    parsed_arguments: Annotated[Any, Field(description="ignored: clients add it")] = None


class ToolCall(Body):
    """A call in a message of the assistant."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None

    def for_template(self) -> dict[str, Any]:
        """Return the call as templates take it, its arguments as an object.

        Raises:
            InputError: The arguments are no JSON object, or one that is deeper than a body may be.
        """
        name = shortened(self.function.name, MAX_NAME)
        try:
            arguments = from_json(self.function.arguments or "{}")
        except ValueError as error:
            raise InputError(f"the arguments of a call of {name} are no JSON: {error}", "messages") from error
        if not isinstance(arguments, dict):
            raise InputError(f"the arguments of a call of {name} are no JSON object: give one, or {{}}", "messages")
        return {"id": self.id, "type": "function", "function": {"name": self.function.name, "arguments": arguments}}


@dataclass(frozen=True)
class ToolSyntax:
    """How a model writes a call: `begin`, a JSON object with `name` and the arguments, `end`."""

    begin: str
    end: str
    arguments: str
    """Name of the arguments in the object."""
    mark: str
    """Text that begins a call and nothing else."""
    is_whole_text: bool
    """A call is the whole text; otherwise calls follow each other, behind any text."""
    free: str
    """Rules of llguidance's grammars: `free` is any text without a call, `lead` a text that ends with a mark."""


SYNTAXES: dict[ToolForm, ToolSyntax] = {
    ToolForm.HERMES: ToolSyntax(
        begin="<tool_call>\n",
        end="\n</tool_call>",
        arguments="arguments",
        mark="<tool_call>",
        is_whole_text=False,
        free="free: FREE\nFREE: /(?s:.*)/ & ~/(?s:.*)<tool_call>(?s:.*)/\nlead[lazy]: /(?s:.*)<tool_call>\\n/\n",
    ),
    ToolForm.LLAMA: ToolSyntax(
        begin="",
        end="",
        arguments="parameters",
        mark="{",
        is_whole_text=True,
        free='free: FREE\nFREE: /([^{](?s:.*))?/\nlead: ""\n',
    ),
}
"""Forms of tool calls; a new one is an entry here, and a mark in `serve.generation.chat_template`."""


@dataclass(frozen=True)
class ToolUse:
    """The tools of a request, and how its model may use them."""

    tools: Sequence[Tool] = ()
    syntax: ToolSyntax | None = None
    """None for a request without tools."""
    is_required: bool = False
    """The text is a call."""
    is_parallel: bool = True
    """There may be several calls."""
    named: str | None = None
    """The only function that may be called; None for all."""

    def allows(self, content: TextForm) -> bool:
        """Return True if a text that is no call may have this form, and can be told from one."""
        if self.syntax is None or content == FREE:
            return True
        return content.json_schema is not None and not self.is_required and not self.syntax.is_whole_text

    def text_form(self, content: TextForm = FREE) -> TextForm:
        """Return the constraint of the text: calls, or else a text in a form that these allow.

        Raises:
            InputError: The parameters of a function are no object.
        """
        if self.syntax is None:
            return content
        begin, end = json.dumps(self.syntax.begin), json.dumps(self.syntax.end)
        more = f' ("\\n" {begin} body)*' if self.is_parallel and not self.syntax.is_whole_text else ""
        functions = {place: tool.function for place, tool in enumerate(self.tools)}
        callable_ = {place: one for place, one in functions.items() if self.named in (None, one.name)}
        first, others = self._first_rules(content)
        rules = [f"start: {first} body{more}", f"body: ({' | '.join(f'f{place}' for place in callable_)}) {end}"]
        for place, function in callable_.items():
            head = f'{{"name": "{function.name}", "{self.syntax.arguments}": '
            schema = {**function.arguments_schema(), "x-guidance": JSON_LAYOUT}
            rule = PARAMETERS.format(place)
            rules += [f'f{place}: {json.dumps(head)} {rule} "}}"', f"{rule}: %json {json.dumps(schema)}"]
        return TextForm(grammar="\n".join([*rules, others]))

    def _first_rules(self, content: TextForm) -> tuple[str, str]:
        """Return what comes before the first call or instead of it, and the rules that it needs."""
        assert self.syntax is not None
        begin = json.dumps(self.syntax.begin)
        if self.is_required:
            return begin, ""
        if content.json_schema is None:
            return "free | lead", self.syntax.free
        schema = {"x-guidance": JSON_LAYOUT, **content.json_schema}
        return f"{CONTENT} | {begin}", f"{CONTENT}: %json {json.dumps(schema)}\n"

    def reader(self) -> "ContentReader":
        """Return a reader of one text."""
        return ContentReader(self.syntax)


NO_TOOLS = ToolUse()


class ContentReader:
    """Separates a text that comes in pieces into its content and its tool calls."""

    def __init__(self, syntax: ToolSyntax | None) -> None:
        self.syntax = syntax
        self.text = ""
        self.returned = 0
        """Characters of the text that were returned as content."""

    def push(self, piece: str) -> str:
        """Return the content that has become certain with a piece of text."""
        self.text += piece
        before, self.returned = self.returned, max(self.returned, self._content_length())
        return self.text[before : self.returned]

    def end(self) -> tuple[str, list[dict[str, Any]]]:
        """Return the rest of the content, and the calls; calls that are incomplete are content."""
        rest = self.text[self.returned :]
        calls = [] if self.syntax is None else _calls(rest, self.syntax)
        return ("", calls) if calls else (rest, [])

    def _content_length(self) -> int:
        """Return the length of the text before what is a call, or may become one."""
        syntax, text = self.syntax, self.text
        if syntax is None:
            return len(text)
        if syntax.is_whole_text:
            return 0 if text.startswith(syntax.mark) else len(text)
        if (place := text.find(syntax.mark)) >= 0:
            return place
        sizes = range(min(len(text), len(syntax.mark) - 1), 0, -1)
        return len(text) - next((size for size in sizes if text.endswith(syntax.mark[:size])), 0)


def names_of_schemas(tools: Sequence[Tool], form_field: str) -> dict[str, str]:
    """Return a client's names of the schemas of tools and of the text's form, by those that errors have for them."""
    names = {PARAMETERS.format(place): f"tools.{place} ({tool.function.name})" for place, tool in enumerate(tools)}
    return {f"grammar.{rule}": name for rule, name in {**names, CONTENT: form_field}.items()}


def tool_use(
    engine: Engine, model: str | None, tools: Sequence[Tool], choice: str | dict[str, Any], *, parallel: bool
) -> ToolUse:
    """Return how a request uses its tools.

    Raises:
        InputError: The model calls no tools, or the choice is none of its tools.
    """
    if not tools or choice == "none":
        if not tools and choice not in ("none", "auto"):
            raise InputError("tool_choice goes with tools, of which there are none", "tool_choice")
        return NO_TOOLS
    models = [one for one in engine.models() if not one.member_of]
    known = next((one for one in models if one.name == model or len(models) == 1), None)
    if known is not None and known.tools is None:
        name = shortened(known.name, MAX_NAME)
        raise InputError(f"{name} calls no tools: no chat template of it takes them in a known form", "tools")
    syntax = None if known is None or known.tools is None else SYNTAXES[known.tools]
    named = _named(choice, tools)
    required = choice == "required" or named is not None
    return ToolUse(tools, syntax, is_required=required, is_parallel=parallel and named is None, named=named)


def _named(choice: str | dict[str, Any], tools: Sequence[Tool]) -> str | None:
    """Return the function that must be called, if the choice names one."""
    if choice in ("auto", "required"):
        return None
    for name in (tool.function.name for tool in tools):
        if choice == {"type": "function", "function": {"name": name}}:
            return name
    text = shortened(json.dumps(choice), 2 * MAX_NAME)
    raise InputError(f"tool_choice is {text}: give none, auto, required, or one of the tools", "tool_choice")


def _calls(text: str, syntax: ToolSyntax) -> list[dict[str, Any]]:
    """Return the calls that a text consists of; none if it is anything else."""
    pattern = f"{re.escape(syntax.begin)}(.*?){re.escape(syntax.end)}"
    if syntax.is_whole_text:
        pattern = r"(\{.*\})"
    found = re.findall(pattern, text, re.DOTALL)
    try:
        calls = [from_json(one) for one in found]
        return [_call(one["name"], one[syntax.arguments]) for one in calls]
    except (ValueError, TypeError, KeyError):
        return []


def _call(name: str, arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}
