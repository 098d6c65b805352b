"""Ask a server through langchain and llama-index: frameworks_client.py ADDRESS FILE; FILE gets what they found.

The server has a base with a chat template that takes tools.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Literal

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

QUESTION = "Rain?"
WHOLE = {"ignore_eos": True}
"""A field that is no OpenAI's: the texts have all tokens that are asked for."""


class Verdict(BaseModel):
    """A verdict."""

    certain: bool


@tool  # type: ignore[untyped-decorator]
def weather(city: Literal["Oslo", "Paris"]) -> str:
    """Return the weather of a city."""
    return city


def through_langchain(address: str) -> Any:
    """Return a chat, a stream, several chats at a time, a completion, a pydantic class and a tool call."""
    server: Any = {"base_url": f"{address}/v1", "api_key": "none", "temperature": 0}
    model = ChatOpenAI(model="base", max_tokens=6, extra_body=WHOLE, **server)
    longer = ChatOpenAI(model="base", max_tokens=90, **server)
    completion = OpenAI(model="north", max_tokens=6, **server)
    return {
        "whole": model.invoke([HumanMessage(QUESTION)]).content,
        "streamed": "".join(str(piece.content) for piece in model.stream(QUESTION)),
        "batch": [one.content for one in model.batch([QUESTION] * 3)],
        "async": asyncio.run(model.ainvoke(QUESTION)).content,
        "usage": model.invoke(QUESTION).usage_metadata,
        "completion": completion.invoke("ab"),
        "parsed": longer.with_structured_output(Verdict).invoke(QUESTION).certain,
        "calls": [call["name"] for call in longer.bind_tools([weather], tool_choice="any").invoke(QUESTION).tool_calls],
    }


def through_llama_index(address: str) -> Any:
    """Return a chat, a stream and a completion."""
    server: Any = {"api_base": f"{address}/v1", "api_key": "none", "max_tokens": 6, "temperature": 0}
    model = OpenAILike(model="base", is_chat_model=True, additional_kwargs={"extra_body": WHOLE}, **server)
    completion = OpenAILike(model="north", is_chat_model=False, **server)
    asked = [ChatMessage(role="user", content=QUESTION)]
    return {
        "whole": model.chat(asked).message.content,
        "streamed": "".join(piece.delta or "" for piece in model.stream_chat(asked)),
        "async": asyncio.run(model.achat(asked)).message.content,
        "completion": completion.complete("ab").text,
    }


def main(address: str, file: str) -> None:
    """Ask everything and write it to a file."""
    found = {"langchain": through_langchain(address), "llama_index": through_llama_index(address)}
    Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
