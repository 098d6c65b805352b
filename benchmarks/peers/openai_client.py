"""Ask a server through the clients `openai` and `litellm`: openai_client.py ADDRESS FILE; FILE gets what they found.

The server has an adapter `north`, and a base with a chat template that takes tools.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import litellm
import openai
from pydantic import BaseModel

WHOLE = {"ignore_eos": True}
"""A field that is no OpenAI's: the texts have all tokens that are asked for."""
USER: list[Any] = [{"role": "user", "content": "Rain?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Paris"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Tone(Enum):
    """A tone."""

    GOOD = "good"
    BAD = "bad"


class Verdict(BaseModel):
    """A verdict."""

    tone: Tone
    certain: bool


def completions(client: openai.OpenAI) -> Any:
    """Return texts of completions, whole and streamed, and the log probabilities of a prompt."""
    asked: Any = {"model": "north", "prompt": ["ab", "c"], "max_tokens": 6, "n": 2, "seed": 1, "temperature": 1.0}
    whole = client.completions.create(**asked)
    pieces = ["" for _ in whole.choices]
    for event in client.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        for choice in event.choices:
            pieces[choice.index] += choice.text
    scored = client.completions.create(model="north", prompt=[68, 69, 70], echo=True, logprobs=1, max_tokens=0)
    assert scored.choices[0].logprobs is not None
    return {
        "whole": [choice.text for choice in whole.choices],
        "streamed": pieces,
        "echo": scored.choices[0].text,
        "logprobs": scored.choices[0].logprobs.token_logprobs,
    }


def chats(client: openai.OpenAI) -> Any:
    """Return texts of chats, whole and streamed, with the usage of each."""
    asked: Any = {"model": "base", "messages": USER, "max_completion_tokens": 6, "extra_body": WHOLE}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    *events, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert whole.usage is not None and last.usage is not None and whole.choices[0].logprobs is not None
    return {
        "whole": whole.choices[0].message.content,
        "streamed": "".join(event.choices[0].delta.content or "" for event in events),
        "usage": whole.usage.total_tokens,
        "streamed_usage": last.usage.total_tokens,
        "entries": len(whole.choices[0].logprobs.content or ()),
    }


async def asynchronous(address: str) -> Any:
    """Return the same through the asynchronous client, several requests at a time."""
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none") as client:
        asked: Any = {"messages": USER, "max_tokens": 6, "extra_body": WHOLE}
        answers = await asyncio.gather(*(client.chat.completions.create(model="base", **asked) for _ in range(4)))
        stream = await client.chat.completions.create(model="base", **asked, stream=True)
        pieces = [event.choices[0].delta.content or "" async for event in stream]
        return {"whole": [one.choices[0].message.content for one in answers], "streamed": "".join(pieces)}


def models(client: openai.OpenAI) -> Any:
    """Return the models, each retrieved by its name."""
    listed = [model.id for model in client.models.list()]
    return [client.models.retrieve(name).id for name in listed]


def errors(client: openai.OpenAI) -> Any:
    """Return the class, status, parameter and code of each error."""
    create = client.chat.completions.create
    refused: dict[str, Callable[[], object]] = {
        "model": lambda: create(model="east", messages=USER),
        "retrieved": lambda: client.models.retrieve("east"),
        "length": lambda: create(model="base", messages=USER, max_completion_tokens=-1),
        "field": lambda: create(model="base", messages=USER, extra_body={"colour": 1}),
        "stream": lambda: list(create(model="base", messages=USER, max_tokens=-1, stream=True)),
        "large": lambda: create(model="base", messages=[{"role": "user", "content": "a" * 3_000_000}]),
    }
    return {name: error_of(call) for name, call in refused.items()}


def error_of(call: Callable[[], object]) -> Any:
    """Return what is known of the error that a call raises."""
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.param, error.code]
    return None


def structured(client: openai.OpenAI) -> Any:
    """Return a pydantic class and a tool call that the texts are parsed into."""
    parsed = client.chat.completions.parse(model="base", messages=USER, response_format=Verdict, max_tokens=60)
    asked: Any = {"model": "base", "messages": USER, "tools": [WEATHER], "max_tokens": 90}
    called = client.chat.completions.parse(**asked, tool_choice="required")
    with client.chat.completions.stream(**asked, tool_choice="required") as stream:
        streamed = stream.get_final_completion()
    answer = called.choices[0].message
    assert parsed.choices[0].message.parsed is not None and answer.tool_calls is not None
    back: Any = {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "no"}
    following = client.chat.completions.create(
        model="base", messages=[*USER, answer, back], max_tokens=3, extra_body=WHOLE
    )
    return {
        "parsed": isinstance(parsed.choices[0].message.parsed.tone, Tone),
        "calls": [call.function.parsed_arguments for call in answer.tool_calls],
        "reason": called.choices[0].finish_reason,
        "streamed": [call.function.arguments for call in streamed.choices[0].message.tool_calls or ()],
        "following": following.choices[0].finish_reason,
    }


def through_litellm(address: str) -> Any:
    """Return a chat and a stream through litellm."""
    asked: Any = {"model": "openai/base", "messages": USER, "max_tokens": 6, "extra_body": WHOLE}
    server: Any = {"api_base": f"{address}/v1", "api_key": "none"}
    whole: Any = litellm.completion(**asked, **server)
    events: Any = litellm.completion(**asked, **server, stream=True)
    pieces = [event.choices[0].delta.content or "" for event in events]
    return {"whole": whole.choices[0].message.content, "streamed": "".join(pieces)}


def main(address: str, file: str) -> None:
    """Ask everything and write it to a file."""
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    found = {
        "completions": completions(client),
        "chats": chats(client),
        "async": asyncio.run(asynchronous(address)),
        "models": models(client),
        "errors": errors(client),
        "structured": structured(client),
        "litellm": through_litellm(address),
    }
    Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
