"""Log probabilities in the forms of clients."""

from dataclasses import replace

import pytest

from serve.generated_text import TokenCandidate, TokenLogprob
from serve.http.openai.logprobs import chat_logprobs, completion_logprobs, prompt_logprobs

BEST, SAME = TokenCandidate(7, "\ufffd", b"\xf0", -0.1), TokenCandidate(8, "\ufffd", b"\xf1", -0.2)
CHOSEN = TokenLogprob(9, "late", 3, -4.0, (BEST, SAME), b"late", 40)


def test_tokens_of_one_text_are_told_apart_and_the_chosen_one_is_there() -> None:
    (top,) = completion_logprobs([CHOSEN])["top_logprobs"]
    assert top == {"\ufffd": -0.1, "token_id:8": -0.2, "late": -4.0}
    (entry,) = chat_logprobs([CHOSEN])["content"]
    assert [one["bytes"] for one in entry["top_logprobs"]] == [[0xF0], [0xF1]]
    assert (entry["token"], entry["bytes"], entry["logprob"]) == ("late", list(b"late"), -4.0)


def test_the_first_token_of_a_prompt_has_a_text_alone() -> None:
    assert completion_logprobs([None, CHOSEN], first_text="the", shift=2) == {
        "tokens": ["the", "late"],
        "token_logprobs": [None, -4.0],
        "top_logprobs": [None, {"\ufffd": -0.1, "token_id:8": -0.2, "late": -4.0}],
        "text_offset": [0, 5],
    }


@pytest.mark.parametrize(("named", "ranks"), [(False, (1, 2, 40)), (True, (None, None, 40))])
def test_a_prompts_entries_go_by_token_with_the_rank_where_it_is_known(
    named: bool, ranks: tuple[int | None, ...]
) -> None:
    first, second = prompt_logprobs([None, CHOSEN], named=named)
    assert first is None and second is not None
    assert [(token, one["rank"], one["logprob"]) for token, one in second.items()] == [
        ("7", ranks[0], -0.1),
        ("8", ranks[1], -0.2),
        ("9", ranks[2], -4.0),
    ]


def test_a_token_that_nothing_is_asked_beside_is_there_alone() -> None:
    alone = replace(CHOSEN, top=())
    assert completion_logprobs([alone])["top_logprobs"] == [{"late": -4.0}]
    own = {"9": {"logprob": -4.0, "rank": 40, "decoded_token": "late"}}
    assert prompt_logprobs([None, alone], named=False) == [None, own]
    assert chat_logprobs([alone])["content"][0]["top_logprobs"] == []
