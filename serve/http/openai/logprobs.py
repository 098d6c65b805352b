"""Log probabilities of tokens in the forms of OpenAI's completions and chats, and of vLLM's prompts."""

from collections.abc import Iterator, Sequence
from typing import Any

from serve.generated_text import TokenCandidate, TokenLogprob

Entries = Sequence[TokenLogprob | None]
"""One entry a token; None for one that has no log probability, the first of a prompt."""


def completion_logprobs(tokens: Entries, *, first_text: str = "", shift: int = 0) -> dict[str, Any]:
    """Return the four lists of OpenAI's completions API, one entry a token.

    Args:
        tokens: Tokens with their log probabilities.
        first_text: Text of a token that has none.
        shift: Characters before the text that offsets are counted in.
    """
    return {
        "tokens": [first_text if one is None else one.text for one in tokens],
        "token_logprobs": [None if one is None else one.logprob for one in tokens],
        "top_logprobs": [None if one is None else _by_text(one) for one in tokens],
        "text_offset": [0 if one is None else one.offset + shift for one in tokens],
    }


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return the list of OpenAI's chat API, one entry a token; bytes tell tokens of the same text apart."""
    return {
        "content": [
            {
                **_chat_entry(one.text, one.content, one.logprob),
                "top_logprobs": [_chat_entry(top.text, top.content, top.logprob) for top in one.top],
            }
            for one in tokens
        ]
    }


def prompt_logprobs(tokens: Entries, *, named: bool) -> list[dict[str, Any] | None]:
    """Return vLLM's log probabilities of a prompt, by token id.

    Args:
        tokens: Tokens with their log probabilities.
        named: The request named the tokens beside each one, whose ranks are then not known.
    """
    return [
        None
        if one is None
        else {
            str(found.token): {"logprob": found.logprob, "rank": rank, "decoded_token": found.text}
            for rank, found in _ranked(one, named=named)
        }
        for one in tokens
    ]


def _by_text(one: TokenLogprob) -> dict[str, float]:
    """Return log probabilities by text, the token's own among them; a second token of one text goes by its id."""
    found: dict[str, float] = {}
    for _, top in _ranked(one, named=False):
        found[top.text if top.text not in found else f"token_id:{top.token}"] = top.logprob
    return found


def _ranked(one: TokenLogprob, *, named: bool) -> Iterator[tuple[int | None, TokenCandidate]]:
    """Yield the tokens beside a token with their ranks, and the token itself if it is not among them."""
    for rank, top in enumerate(one.top, 1):
        yield one.rank if top.token == one.token else None if named else rank, top
    if all(top.token != one.token for top in one.top):
        yield one.rank, TokenCandidate(one.token, one.text, one.content, one.logprob)


def _chat_entry(text: str, content: bytes, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(content)}
