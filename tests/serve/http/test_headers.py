from dataclasses import dataclass

from serve.http.headers import MOST, adapter_headers


@dataclass(frozen=True)
class Answer:
    adapter: str
    sha256: str


def test_each_adapter_is_named_once_in_the_order_of_the_answers() -> None:
    answers = [Answer("tone", "a" * 64), Answer("intent", "b" * 64)] * 100
    assert adapter_headers(answers) == {"X-Adapter": "tone,intent", "X-Adapter-Sha256": f"{'a' * 64},{'b' * 64}"}


def test_a_name_that_was_replaced_meanwhile_comes_with_both_hashes() -> None:
    assert adapter_headers([Answer("tone", "a"), Answer("tone", "b")])["X-Adapter-Sha256"] == "a,b"


def test_headers_stay_below_what_proxies_take() -> None:
    answers = [Answer(f"{index:064}", f"{index:064}") for index in range(MOST)]
    assert sum(map(len, adapter_headers(answers).values())) < 4096
    assert adapter_headers([*answers, Answer("one", "more")]) == {}
