"""Messages of OpenAI's chat API, with vLLM's additions."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve.errors import MAX_NAME, InputError, shortened
from serve.http.body import Body, FirstError, Strings
from serve.http.openai.protocol import check_neutral
from serve.http.openai.sampling_fields import SamplingFields
from serve.http.openai.structured_output import TextForm
from serve.http.openai.tool_calls import NO_TOOLS, Tool, ToolCall, ToolUse, names_of_schemas
from serve.requests import Chat, GenerationRequest

TEMPLATE_ROLES = {"developer": "system"}
"""Roles that templates know by another name."""
MAX_MESSAGES = 4096
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "echo": (False,),
    "add_special_tokens": (False,),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": (),
    "verbosity": (),
    "functions": (),
    "function_call": (),
}
"""Values that change nothing, by field; others are refused."""


class Part(BaseModel):
    """A part of a message's content; texts alone are read."""

    model_config = ConfigDict(extra="allow")

    type: str
    text: str | None = None


class Message(Body):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], FirstError()] | None = None
    name: str | None = None
    refusal: Annotated[str | None, Field(description="read in the place of content that is null")] = None
    tool_calls: Annotated[list[ToolCall], FirstError()] | None = None
    tool_call_id: str | None = None
    parsed: Annotated[Any, Field(description="ignored: clients add it to an answer")] = None
    annotations: Annotated[list[Any] | None, Field(description="ignored: of an answer, as clients return it")] = None
    audio: None = None
    function_call: None = None

    def for_template(self) -> dict[str, Any]:
        """Return the message as templates take it.

        Raises:
            InputError: It holds images or audio, or a tool call whose arguments are no JSON.
        """
        message: dict[str, Any] = {"role": TEMPLATE_ROLES.get(self.role, self.role), "content": self._text()}
        if self.tool_calls:
            message["tool_calls"] = [call.for_template() for call in self.tool_calls]
        for name in ("name", "tool_call_id"):
            if (value := getattr(self, name)) is not None:
                message[name] = value
        return message

    def _text(self) -> str:
        if self.content is None and self.refusal is not None:
            return self.refusal
        if self.content is None and not self.tool_calls:
            raise InputError(f"a message of the {self.role} has no content", "messages")
        if not isinstance(self.content, list):
            return self.content or ""
        if other := [part.type for part in self.content if part.type != "text" or part.text is None]:
            raise InputError(f"messages have a part of type {other[0]!r}: models here read text alone", "messages")
        if unknown := [name for part in self.content for name in part.model_extra or ()]:
            name = shortened(unknown[0], MAX_NAME)
            raise InputError(f"messages have a part of text with the unknown field {name!r}: leave it out", "messages")
        return "\n".join(str(part.text) for part in self.content)


class ChatRequest(SamplingFields):
    """A chat to continue."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "base", "messages": [{"role": "user", "content": "Who are you?"}]}}
    )

    messages: Annotated[list[Message], FirstError(), Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int | None, Field(description="another name of max_tokens")] = None
    logprobs: Annotated[bool, Field(description="return the log probability of each token")] = False
    top_logprobs: Annotated[int | None, Field(description="with logprobs, and of so many most probable ones")] = None
    tools: Annotated[list[Tool], FirstError()] = Field(default_factory=list)
    tool_choice: Annotated[
        str | dict[str, Any],
        Field(description='none, auto, required, or {"type": "function", "function": {"name": …}}'),
    ] = "auto"
    parallel_tool_calls: Annotated[bool, Field(description="false allows one call")] = True
    add_generation_prompt: Annotated[bool, Field(description="end the prompt with the beginning of an answer")] = True
    chat_template_kwargs: Annotated[
        dict[str, Any], FirstError(), Field(description="further variables of the chat template")
    ] = Field(default_factory=dict)
    echo: Annotated[bool | None, Field(description="only false")] = None
    add_special_tokens: Annotated[bool | None, Field(description="only false: the template has them")] = None
    modalities: Annotated[Strings | None, Field(description="only text")] = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    functions: Any = None
    function_call: Any = None

    def field_names(self) -> dict[str, str]:
        """Return this request's names of the engine's fields."""
        most = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        names = {"max_new_tokens": most, "prompts": "messages", "variables": "chat_template_kwargs"}
        if self.top_logprobs:
            names["logprobs"] = "top_logprobs"
        if self.tools and self.tool_choice != "none":
            names["grammar"] = "tools"
        return {**names_of_schemas(self.tools, self.form_field), **super().field_names(), **names}

    def generation_request(self, most: int, tools: ToolUse = NO_TOOLS) -> GenerationRequest:
        """Return the engine's request.

        Raises:
            InputError: A value is out of range or not supported, or the request asks for more than `most` texts.
        """
        check_neutral(self, NEUTRAL)
        if all(message.role != "user" for message in self.messages):
            raise InputError("messages have none of the user: add one", "messages")
        if self.top_logprobs and not self.logprobs:
            raise InputError("top_logprobs goes with logprobs: set logprobs to true", "top_logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise InputError("max_tokens and max_completion_tokens differ: give one", "max_completion_tokens")
        chat = Chat(
            messages=[message.for_template() for message in self.messages],
            tools=[tool.for_template() for tool in tools.tools],
            add_generation_prompt=self.add_generation_prompt,
            variables=self.chat_template_kwargs,
        )
        sampling = self.sampling_params(
            self._form_beside(tools),
            max_new_tokens=self.max_completion_tokens if self.max_tokens is None else self.max_tokens,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )
        return self.engine_request([chat], sampling, most)

    def _form_beside(self, tools: ToolUse) -> TextForm:
        """Return the form of a text that may call tools."""
        content = self.text_form()
        if not tools.allows(content):
            calls = "tool_choice asks for calls alone" if tools.is_required else "a call cannot be told from it"
            raise InputError(f"{self.form_field} goes without tools here: {calls}, leave out one", self.form_field)
        return tools.text_form(content)
