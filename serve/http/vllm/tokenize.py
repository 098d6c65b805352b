"""POST /tokenize and /detokenize, GET /tokenizer_info, compatible with vLLM.

text-embeddings-inference has the path /tokenize too; its clients send `inputs` where those of vLLM send `prompt`.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from serve.engine import Codec, Engine
from serve.errors import InputError
from serve.http.body import Body, FirstError, Strings
from serve.http.nullable_body import NullableBody
from serve.http.openapi import request_body
from serve.tokenized_text import TokenizedText

router = APIRouter()
Ids = Annotated[list[int], FirstError()]


class TokenizeRequest(NullableBody):
    """A text in vLLM's form, or texts in that of text-embeddings-inference."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "tone", "prompt": "It works like a charm."}})

    model: Annotated[str | None, Field(description="name of a model; optional if the server has one bundle")] = None
    prompt: Annotated[str | None, Field(description="a text, in vLLM's form")] = None
    inputs: Annotated[str | Strings | None, Field(description="texts, in text-embeddings-inference's form")] = None
    add_special_tokens: Annotated[bool, Field(description="add the tokens that the base expects around a text")] = True
    return_token_strs: Annotated[bool | None, Field(description="with prompt: the tokens as texts as well")] = False


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


@router.post("/tokenize", openapi_extra=request_body(TokenizeRequest))
async def tokenize(request: Request) -> TokenizeResponse | list[list[Token]]:
    """Return the tokens of a text: an object for `prompt`, a list for each text of `inputs`."""
    body = TokenizeRequest.from_json(await request.body())
    request.state.field_names = {"prompts": "inputs" if body.prompt is None else "prompt"}
    if (body.prompt is None) == (body.inputs is None):
        raise InputError("send a text as prompt, or texts as inputs")
    codec = _codec(request, body.model)
    if body.prompt is not None:
        found = await codec.tokenize(body.prompt, special_tokens=body.add_special_tokens)
        return TokenizeResponse(
            count=len(found.ids),
            max_model_len=codec.max_length,
            tokens=list(found.ids),
            token_strs=list(found.names) if body.return_token_strs else None,
        )
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs or []
    limit = request.app.state.max_client_batch_size
    if not 1 <= len(texts) <= limit:
        raise InputError(f"inputs has {len(texts)} texts: send 1 to {limit}")
    return [_tokens(text, await codec.tokenize(text, special_tokens=body.add_special_tokens)) for text in texts]


@router.post("/detokenize", openapi_extra=request_body(DetokenizeRequest))
async def detokenize(request: Request) -> DetokenizeResponse:
    """Return the text of tokens."""
    body = DetokenizeRequest.from_json(await request.body())
    return DetokenizeResponse(prompt=_codec(request, body.model).detokenize(body.tokens))


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request, model: str | None = None) -> dict[str, Any]:
    """Return the tokenizer's configuration: special tokens, and the chat template where the base has one."""
    return dict(_codec(request, model).config)


def _codec(request: Request, model: str | None) -> Codec:
    engine: Engine = request.app.state.engine
    return engine.codec(model)


def _tokens(text: str, found: TokenizedText) -> list[Token]:
    """Return tokens with the part of the text that each stands for; a special one has its own name."""
    return [
        Token(
            id=number,
            text=name if special else text[start:stop],
            special=special,
            start=None if special else start,
            stop=None if special else stop,
        )
        for number, name, special, (start, stop) in zip(
            found.ids, found.names, found.special, found.offsets, strict=True
        )
    ]
