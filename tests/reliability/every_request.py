"""Requests of every kind that a server answers: each route over HTTP, each method over gRPC, and wrong ones."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx

from serve.grpc.messages import MESSAGES
from serve.grpc.server import SERVICE
from serve.grpc.service import METHODS, STREAMS

CHAT = [{"role": "user", "content": "say"}]
TENSOR = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["good"]}
PROMPT = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["say"]}
COMPLETION: dict[str, Any] = {"model": "north", "prompt": "say", "max_tokens": 4, "temperature": 0, "ignore_eos": True}
CHATTED: dict[str, Any] = {"model": "south", "messages": CHAT, "max_tokens": 4, "seed": 1}
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Asked:
    """A request over HTTP and its status."""

    path: str
    body: Any = None
    """JSON, or bytes that are no JSON; None sends none, by GET."""
    status: int = 200
    method: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes | None:
        return self.body if isinstance(self.body, bytes | None) else json.dumps(self.body).encode()

    async def send(self, client: httpx.AsyncClient) -> httpx.Response:
        method = self.method or ("GET" if self.body is None else "POST")
        headers = {**JSON, **self.headers}
        return await client.request(method, self.path, content=self.content(), headers=headers)


GETS = ("/health", "/health/live", "/health/ready", "/info", "/metrics", "/ping", "/v1/adapters", "/v1/models", "/v2")
GETS += ("/v1/models/tone", "/v2/health/live", "/v2/health/ready", "/v2/models/tone", "/v2/models/north/ready")
GETS += ("/tokenizer_info?model=north", "/openapi.json")
REQUESTS: dict[str, Asked] = {
    **{f"GET {path}": Asked(path) for path in GETS},
    "predict": Asked("/predict", {"inputs": "good", "adapter": "tone"}),
    "predict many": Asked(
        "/predict", {"inputs": [["good"], ["bad bill"]], "adapter": ["tone", "grade"], "raw_scores": True}
    ),
    "predict in windows": Asked("/predict", {"inputs": "good bad " * 9, "adapter": "tone", "windows": True}),
    "predict pairs": Asked("/predict", {"inputs": [["good", "bad"]], "adapter": "match", "return_adapter": True}),
    "classify": Asked("/classify", {"input": ["good", "late"], "model": "tone"}),
    "classify as infinity": Asked("/classify", {"input": ["good"], "model": "tone", "raw_scores": True}),
    "rerank": Asked("/rerank", {"query": "good", "texts": ["bad", "late"], "model": "grade"}, status=422),
    "rerank v1": Asked("/v1/rerank", {"query": "good", "documents": ["bad"], "model": "match"}),
    "rerank v2": Asked("/v2/rerank", {"query": "good", "documents": ["bad"], "model": "nobody"}, status=404),
    "invocations": Asked("/invocations", {"inputs": "good", "adapter": "tone"}),
    "invocations of a writer": Asked("/invocations", COMPLETION),
    "inference API": Asked("/models/tone", {"inputs": "good"}),
    "inference API of a writer": Asked("/models/north", {"inputs": "say", "parameters": {"max_new_tokens": 3}}),
    "inference API's root": Asked("/", {"inputs": "good"}, status=422),
    "tokenize": Asked("/tokenize", {"model": "tone", "prompt": "good bad"}),
    "tokenize a chat": Asked("/tokenize", {"model": "north", "messages": CHAT}),
    "tokenize many": Asked("/tokenize", {"model": "tone", "inputs": ["good", "bad"]}),
    "detokenize": Asked("/detokenize", {"model": "north", "tokens": [70, 71]}),
    "completions": Asked("/v1/completions", COMPLETION),
    "completions with logprobs": Asked("/v1/completions", {**COMPLETION, "logprobs": 2, "echo": True}),
    "completions, sampled": Asked("/v1/completions", {**COMPLETION, "temperature": 1, "top_p": 0.9, "n": 2}),
    "completions in a schema": Asked(
        "/v1/completions", {**COMPLETION, "max_tokens": 40, "ignore_eos": False, "response_format": FORMAT}
    ),
    "chat": Asked("/v1/chat/completions", CHATTED),
    "infer": Asked("/v2/models/tone/infer", {"inputs": [TENSOR]}),
    "infer of a writer": Asked("/v2/models/north/infer", {"inputs": [PROMPT], "parameters": {"max_tokens": 3}}),
    "infer in binary": Asked("/v2/models/tone/infer", {"inputs": [TENSOR], "parameters": {"binary_data_output": True}}),
    "infer of no version": Asked("/v2/models/tone/versions/000/infer", {"inputs": [TENSOR]}, status=404),
    "generate": Asked("/v2/models/west/generate", {"text_input": "say", "max_tokens": 3}),
    "generate of no version": Asked("/v2/models/west/versions/0/generate", {"text_input": "say"}, status=404),
    "no such version": Asked("/v2/models/tone/versions/000", status=404),
    "no such version, ready": Asked("/v2/models/tone/versions/000/ready", status=404),
    "index": Asked("/v2/repository/index", {"ready": True}),
    "another method": Asked("/predict", status=405),
    "another path": Asked("/nothing", status=404),
    "HEAD": Asked("/health", method="HEAD"),
    "no JSON": Asked("/predict", b'{"inputs": ', status=400),
    "no UTF-8": Asked("/v1/completions", b'{"prompt": "\xff"}', status=400),
    "an unknown field": Asked("/predict", {"inputs": "good", "adapter": "tone", "x": 1}, status=422),
    "an unknown adapter": Asked("/predict", {"inputs": "good", "adapter": "nobody"}, status=404),
    "an unknown writer": Asked("/v1/chat/completions", {**CHATTED, "model": "nobody"}, status=404),
    "a text that is too long": Asked("/predict", {"inputs": "good " * 50, "adapter": "tone"}, status=422),
    "a body that is too large": Asked("/predict", b" " * 100_001, status=413),
    "a compressed body": Asked("/predict", b"x", status=415, headers={"content-encoding": "gzip"}),
    "a folder outside": Asked("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "../x"}, status=422),
    "a schema that is none": Asked("/v1/completions", {**COMPLETION, "guided_regex": "("}, status=422),
}
"""The body limit of the server is 100,000 bytes."""
STREAMED: dict[str, Asked] = {
    "completions": Asked("/v1/completions", {**COMPLETION, "stream": True, "stream_options": {"include_usage": True}}),
    "chat": Asked("/v1/chat/completions", {**CHATTED, "stream": True}),
    "generate": Asked("/v2/models/north/generate_stream", {"text_input": "say", "max_tokens": 3}),
    "generate of no version": Asked("/v2/models/north/versions/0/generate_stream", {"text_input": "say"}, status=404),
    "inference API": Asked("/models/south", {"inputs": "say", "parameters": {"max_new_tokens": 3}, "stream": True}),
}
LONG_STREAM = {**COMPLETION, "max_tokens": 800, "stream": True}
Kind = Callable[["Clients"], Awaitable[None]]


@dataclass
class Clients:
    """Connections to a server, over HTTP and gRPC, and a lock for adapters that come and go."""

    http: httpx.AsyncClient
    channel: Any
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


def plain(asked: Asked) -> Kind:
    async def ask(clients: Clients) -> None:
        response = await asked.send(clients.http)
        assert response.status_code == asked.status, f"{asked.path}: {response.status_code} {response.text[:300]}"

    return ask


def streamed(asked: Asked) -> Kind:
    async def ask(clients: Clients) -> None:
        async with clients.http.stream("POST", asked.path, content=asked.content(), headers=JSON) as response:
            text = (await response.aread()).decode()
        assert response.status_code == asked.status, text
        if asked.status == 200:
            assert "data:" in text and '"error"' not in text, text

    return ask


async def leave_a_stream(clients: Clients) -> None:
    """Leave after the first event."""
    async with clients.http.stream("POST", "/v1/completions", json=LONG_STREAM) as response:
        async for _ in response.aiter_lines():
            break


async def leave_an_answer(clients: Clients) -> None:
    """Leave before a text is complete."""
    try:
        await clients.http.post("/v1/completions", json={**LONG_STREAM, "stream": False}, timeout=0.02)
    except httpx.TimeoutException:
        return
    raise AssertionError("800 tokens within 20 ms")


async def wait_too_briefly(clients: Clients) -> None:
    """Give the server less time than it takes."""
    body = {**LONG_STREAM, "stream": False}
    response = await clients.http.post("/v1/completions", json=body, headers={"X-Request-Timeout": "0.02"})
    assert response.status_code == 504


async def load_and_unload(clients: Clients) -> None:
    """Load an adapter by one protocol, ask it, replace it by another, and unload it."""
    async with clients.lock:
        load = {"lora_name": "intent", "lora_path": "intent"}
        for asked in (
            Asked("/v1/load_lora_adapter", load),
            Asked("/v1/load_lora_adapter", load, status=422),
            Asked("/predict", {"inputs": "good", "adapter": "intent"}),
            Asked("/v2/repository/models/intent/load", {}),
            Asked("/v1/unload_lora_adapter", {"lora_name": "intent"}),
            Asked("/predict", {"inputs": "good", "adapter": "intent"}, status=404),
        ):
            await plain(asked)(clients)
        assert (await call(clients, "RepositoryModelLoad", model_name="intent")).isLoaded
        await plain(Asked("/v2/repository/models/intent/unload", {}))(clients)
        await call(clients, "RepositoryModelLoad", model_name="intent")
        assert (await call(clients, "RepositoryModelUnload", model_name="intent")).isUnloaded


def call(clients: Clients, method: str, **fields: Any) -> Any:
    """Call a method over gRPC."""
    asked = METHODS[method][0]
    stub = clients.channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=MESSAGES[asked.replace("Request", "Response")].FromString,
    )
    return stub(MESSAGES[asked](**fields))


def infer_request(model: str, name: str, text: str, **parameters: int) -> Any:
    request = MESSAGES["ModelInferRequest"](model_name=model)
    tensor = request.inputs.add(name=name, datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(text.encode())
    for key, value in parameters.items():
        request.parameters[key].int64_param = value
    return request


def over_grpc(method: str, **fields: Any) -> Kind:
    async def ask(clients: Clients) -> None:
        assert await call(clients, method, **fields) is not None

    return ask


async def infer_over_grpc(clients: Clients) -> None:
    stub = clients.channel.unary_unary(
        f"/{SERVICE}/ModelInfer", request_serializer=lambda message: message.SerializeToString()
    )
    assert await stub(infer_request("tone", "text", "good"))
    assert await stub(infer_request("north", "text_input", "say", max_tokens=3))


def refused_over_grpc(request: Any, code: str) -> Kind:
    async def ask(clients: Clients) -> None:
        stub = clients.channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=lambda one: one if isinstance(one, bytes) else one.SerializeToString(),
        )
        try:
            await stub(request)
        except grpc.aio.AioRpcError as error:
            assert error.code().name == code, error
            return
        raise AssertionError(f"not {code}")

    return ask


def streamed_over_grpc(*, left: bool) -> Kind:
    async def ask(clients: Clients) -> None:
        stub = clients.channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES["ModelStreamInferResponse"].FromString,
        )
        stream = stub(iter([infer_request("north", "text_input", "say", max_tokens=800 if left else 3)]))
        async for response in stream:
            assert not response.error_message
            if left:
                stream.cancel()
                return

    return ask


KINDS: dict[str, Kind] = {
    **{name: plain(asked) for name, asked in REQUESTS.items()},
    **{f"{name}, streamed": streamed(asked) for name, asked in STREAMED.items()},
    "a stream that is left": leave_a_stream,
    "an answer that is left": leave_an_answer,
    "a deadline of the client": wait_too_briefly,
    "loads and unloads": load_and_unload,
    "ModelInfer": infer_over_grpc,
    "ModelStreamInfer": streamed_over_grpc(left=False),
    "ModelStreamInfer that is left": streamed_over_grpc(left=True),
    **{name: over_grpc(name) for name in ("ServerLive", "ServerReady", "ServerMetadata", "RepositoryIndex")},
    **{name: over_grpc(name, name="tone") for name in ("ModelReady", "ModelMetadata")},
    "gRPC: an unknown adapter": refused_over_grpc(infer_request("nobody", "text", "x"), "NOT_FOUND"),
    "gRPC: an unknown parameter": refused_over_grpc(infer_request("tone", "text", "x", much=1), "INVALID_ARGUMENT"),
    "gRPC: no message": refused_over_grpc(b"\xff\xff", "INVALID_ARGUMENT"),
}


def unasked(document: dict[str, Any]) -> set[str]:
    """Return the routes of an OpenAPI document, and the methods over gRPC, that no kind asks for."""
    paths = {asked.path.partition("?")[0] for asked in (*REQUESTS.values(), *STREAMED.values())}
    paths |= {"/v1/unload_lora_adapter", "/v2/repository/models/x/load", "/v2/repository/models/x/unload"}
    templates = {path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in document["paths"]}
    missing = {path for path, template in templates.items() if not any(map(template.fullmatch, paths))}
    methods = {*METHODS, *STREAMS} - {*KINDS, "RepositoryModelLoad", "RepositoryModelUnload"}
    return missing | methods
