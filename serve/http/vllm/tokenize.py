"""POST /tokenize and /detokenize, GET /tokenizer_info, compatible with vLLM.

text-embeddings-inference has the path /tokenize too; its clients send `inputs` where those of vLLM send `prompt`.
"""

import asyncio
import json
from contextlib import aclosing
from itertools import islice
from typing import Annotated, Any, cast

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serve.engine import Capability, ChatForm, Codec, Engine, GenerationEngine
from serve.errors import InputError
from serve.generated_text import StreamStart
from serve.http.body import Body, FirstError, Strings
from serve.http.nullable_body import NullableBody
from serve.http.openai.chat_messages import MAX_MESSAGES, Message
from serve.http.openai.protocol import check_neutral
from serve.http.openai.tool_calls import Tool, tool_use
from serve.http.openapi import request_body
from serve.lookup import look_up
from serve.requests import Chat, GenerationRequest
from serve.sampling_params import SamplingParams
from serve.tokenized_text import TokenizedText

router = APIRouter()
Ids = Annotated[list[int], FirstError()]
NEUTRAL: dict[str, tuple[Any, ...]] = {"add_special_tokens": (False,), "continue_final_message": (False,)}
"""Values of a chat's fields that change nothing; others are refused."""
TOKENS_AT_ONCE = 1000
"""Tokens whose JSON takes a millisecond or two."""
OF_CHATS = ("tools", "chat_template_kwargs", "continue_final_message", "add_generation_prompt")
"""Fields that go with messages."""


class TokenizeRequest(NullableBody):
    """A text or a chat in vLLM's form, or texts in that of text-embeddings-inference."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "tone", "prompt": "It works like a charm."}})

    model: Annotated[str | None, Field(description="name of a model; optional if the server has one bundle")] = None
    prompt: Annotated[str | None, Field(description="a text, in vLLM's form")] = None
    inputs: Annotated[str | Strings | None, Field(description="texts, in text-embeddings-inference's form")] = None
    messages: Annotated[
        list[Message] | None,
        FirstError(),
        Field(min_length=1, max_length=MAX_MESSAGES, description="a chat, in vLLM's form"),
    ] = None
    add_special_tokens: Annotated[
        bool | None,
        Field(description="add the tokens that the base expects around a text: true by default; of a chat only false"),
    ] = None
    return_token_strs: Annotated[bool, Field(description="with prompt or messages: the tokens as texts as well")] = (
        False
    )
    tools: Annotated[list[Tool], FirstError(), Field(description="with messages: functions that it offers")] = Field(
        default_factory=list
    )
    add_generation_prompt: Annotated[
        bool | None, Field(description="with messages: end with the beginning of an answer; true by default")
    ] = None
    continue_final_message: Annotated[bool | None, Field(description="only false")] = None
    chat_template_kwargs: Annotated[
        dict[str, Any], FirstError(), Field(description="with messages: further variables of the chat template")
    ] = Field(default_factory=dict)

    def check(self) -> None:
        """Raise an InputError unless there is one input, and the other fields belong to it."""
        inputs = [name for name in ("prompt", "messages", "inputs") if getattr(self, name) is not None]
        if len(inputs) != 1:
            raise InputError("send a text as prompt, a chat as messages, or texts as inputs")
        if self.messages is not None:
            check_neutral(self, NEUTRAL)
            return
        for name in OF_CHATS:
            if getattr(self, name) not in (None, [], {}):
                raise InputError(f"{name} goes with messages, and there are {inputs[0]}: leave it out", name)


class TokenizeResponse(BaseModel):
    """The tokens of a prompt."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class Token(BaseModel):
    """One token in text-embeddings-inference's form."""

    id: int
    text: str
    special: bool
    start: Annotated[int | None, Field(description="its first character; null for a special token")]
    stop: Annotated[int | None, Field(description="the character behind its last one")]


class DetokenizeRequest(Body):
    """Tokens to put together."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "tone", "tokens": [101, 2009, 102]}})

    model: Annotated[str | None, Field(description="name of a model; optional if the server has one bundle")] = None
    tokens: Ids


class DetokenizeResponse(BaseModel):
    """The text of the tokens, special tokens included."""

    prompt: str


@router.post(
    "/tokenize", response_model=TokenizeResponse | list[list[Token]], openapi_extra=request_body(TokenizeRequest)
)
async def tokenize(request: Request) -> Response:
    """Return the tokens of a text: an object for `prompt` and `messages`, a list for each text of `inputs`."""
    body = TokenizeRequest.from_json(await request.body())
    body.check()
    if body.messages is not None:
        return await _of_chat(request, body, body.messages)
    request.state.field_names = {"prompts": "inputs" if body.prompt is None else "prompt"}
    codec = await _codec(request, body.model)
    special_tokens = body.add_special_tokens is not False
    if body.prompt is not None:
        return _whole(body, codec, await codec.tokenize(body.prompt, special_tokens=special_tokens))
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs or []
    limit = request.app.state.max_client_batch_size
    if not 1 <= len(texts) <= limit:
        raise InputError(f"inputs has {len(texts)} texts: send 1 to {limit}")
    lists = []
    for text in texts:
        found = await codec.tokenize(text, special_tokens=special_tokens)
        is_long = len(found.ids) > TOKENS_AT_ONCE
        lists.append(await asyncio.to_thread(_tokens, text, found) if is_long else _tokens(text, found))
    return _json(b"[" + b",".join(lists) + b"]")


@router.post("/detokenize", openapi_extra=request_body(DetokenizeRequest))
async def detokenize(request: Request) -> DetokenizeResponse:
    """Return the text of tokens."""
    body = DetokenizeRequest.from_json(await request.body())
    codec = await _codec(request, body.model)
    return DetokenizeResponse(prompt=await codec.detokenize(body.tokens))


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request, model: str | None = None) -> dict[str, Any]:
    """Return the tokenizer's configuration: special tokens, and the chat template where the base has one."""
    codec = await _codec(request, model)
    return dict(codec.config)


async def _of_chat(request: Request, body: TokenizeRequest, messages: list[Message]) -> Response:
    """Return the tokens of the prompt in which a model reads a chat."""
    request.state.field_names = {"adapter": "model", "prompts": "messages", "variables": "chat_template_kwargs"}
    engine: Engine = request.app.state.engine
    await look_up(engine, body.model)
    known = None if body.model is None else engine.model(body.model)
    if Capability.GENERATE not in engine.capabilities or (known is not None and known.labels):
        raise InputError("messages: classifiers read no chats, send a text as prompt", "messages")
    tools = tool_use(engine, body.model, body.tools, "auto", parallel=True).tools
    chat = Chat(
        messages=[message.for_template() for message in messages],
        tools=[tool.for_template() for tool in tools],
        add_generation_prompt=body.add_generation_prompt is not False,
        variables=body.chat_template_kwargs,
    )
    asked = GenerationRequest(prompts=[chat], adapters=[body.model], sampling=SamplingParams(max_new_tokens=0))
    async with aclosing(cast(GenerationEngine, engine).stream(asked)) as events:
        start = cast(StreamStart, await anext(events))
    codec, info = await _codec(request, start.adapter), engine.model(start.adapter)
    special_tokens = info is None or info.chat is not ChatForm.TEMPLATE  # which a template has written itself
    return _whole(body, codec, await codec.tokenize(start.prompt_texts[0], special_tokens=special_tokens))


def _whole(body: TokenizeRequest, codec: Codec, found: TokenizedText) -> Response:
    response = TokenizeResponse(
        count=len(found.ids),
        max_model_len=codec.max_length,
        tokens=list(found.ids),
        token_strs=list(found.names) if body.return_token_strs else None,
    )
    return _json(response.model_dump_json().encode())


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


async def _codec(request: Request, model: str | None) -> Codec:
    engine: Engine = request.app.state.engine
    await look_up(engine, model)
    return engine.codec(model)


def _tokens(text: str, found: TokenizedText) -> bytes:
    """Return tokens as a JSON list, with the part of the text that each stands for; a special one has its own name.

    They are written a part at a time, since nothing else is answered while one part is.
    """
    tokens = zip(found.ids, found.names, found.special, found.offsets, strict=True)
    parts = []
    while some := list(islice(tokens, TOKENS_AT_ONCE)):
        entries = [
            {
                "id": number,
                "text": name if special else text[start:stop],
                "special": special,
                "start": None if special else start,
                "stop": None if special else stop,
            }
            for number, name, special, (start, stop) in some
        ]
        parts.append(json.dumps(entries, ensure_ascii=False, separators=(",", ":"))[1:-1])
    return f"[{','.join(parts)}]".encode()
