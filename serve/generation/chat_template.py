"""Chat templates: the text of a chat, rendered as transformers does, in a sandbox."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import DictLoader, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from serve.bundle.reader import Bundle
from serve.bundle.tokenizer_config import DEFAULT_TEMPLATE, chat_templates, special_tokens
from serve.engine import ToolForm
from serve.errors import InputError, first_line
from serve.requests import Chat

TOOL_MARKS = {ToolForm.HERMES: "<tool_call>", ToolForm.LLAMA: '"parameters": '}
"""Texts of a template that show in which form its model calls tools."""
REFUSALS = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""Errors of a template that the messages did not suit."""
TOOL_TEMPLATE = "tool_use"
"""Name of the template for chats with tools, where a base has several."""


class ChatTemplate:
    """The chat template of a base."""

    def __init__(self, sources: Mapping[str, str], special: Mapping[str, str]) -> None:
        """Keep the templates, which are compiled when they are first used.

        Args:
            sources: Templates by name; empty for a base without one.
            special: Texts of special tokens, by the names that templates know.
        """
        self.sources, self.special = sources, special
        self.environment = _environment(sources)

    def __bool__(self) -> bool:
        return bool(self.sources)

    @property
    def tool_form(self) -> ToolForm | None:
        """The form in which the model calls tools; None if its template takes none, or in another form."""
        sources = [source for source in self.sources.values() if "tools" in source]
        return next((form for form, mark in TOOL_MARKS.items() if any(mark in source for source in sources)), None)

    def render(self, chat: Chat) -> str:
        """Return the text of a chat.

        Raises:
            InputError: The base has no template, the template takes no tools, or it refuses the messages.
        """
        name = self._name(chat)
        if chat.tools and "tools" not in self.sources[name]:
            raise InputError("the base's chat template takes no tools: leave them out, or serve another base", "tools")
        variables = {
            **self.special,
            "messages": chat.messages,
            "tools": list(chat.tools) or None,
            "documents": None,
            "add_generation_prompt": chat.add_generation_prompt,
        }
        if taken := sorted(variables.keys() & chat.variables.keys()):
            raise InputError(f"the template's variable {taken[0]} has a field of its own: leave it out", "variables")
        try:
            return self.environment.get_template(name).render({**variables, **chat.variables})
        except SecurityError as error:
            raise InputError(f"the base's chat template does what is not allowed: {first_line(error)}") from error
        except REFUSALS as error:
            message = f"the base's chat template refuses these messages: {first_line(error)}"
            raise InputError(message, "messages") from error

    def _name(self, chat: Chat) -> str:
        """Return the name of the template for a chat."""
        if not self.sources:
            raise InputError("the base has no chat template: send a prompt to /v1/completions", "messages")
        if chat.tools and TOOL_TEMPLATE in self.sources:
            return TOOL_TEMPLATE
        return DEFAULT_TEMPLATE if DEFAULT_TEMPLATE in self.sources else next(iter(self.sources))


def chat_template(bundle: Bundle) -> ChatTemplate:
    """Return the chat template of a bundle's base, which may be empty."""
    return ChatTemplate(chat_templates(bundle), special_tokens(bundle))


class GenerationBlocks(Extension):
    """The tag `{% generation %}`, which marks what a model wrote for training; its content is rendered as it is."""

    tags = frozenset({"generation"})  # type: ignore[assignment]

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Return the nodes between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment(sources: Mapping[str, str]) -> ImmutableSandboxedEnvironment:
    """Return what templates run in; it keeps them once they are compiled."""
    environment = ImmutableSandboxedEnvironment(
        loader=DictLoader(sources), trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationBlocks]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(GLOBALS)
    return environment


def _to_json(value: Any, **options: Any) -> str:
    """Return JSON without escapes for HTML, unlike Jinja's own filter."""
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


GLOBALS: dict[str, Callable[..., Any]] = {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
"""Functions that templates expect."""
