from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamix_export.converters.canaries import check_canaries
from adamix_export.errors import ParityError
from serve.bundle.manifest import Edge, Manifest
from serve.bundle.reader import Bundle
from tests.serve.conftest import card

MANIFEST = Manifest(
    task="text-classification",
    shape="bank",
    precision="fp32",
    base={},
    pad_token_id=0,
    adapters=[],
    inputs=[],
    outputs=[],
    parity={},
    versions={},
)
BUNDLE = Bundle(Path("bundle"), MANIFEST, {})
TOKENS: list[int | str] = ["batch", "sequence"]
EDGES = [Edge(name=name, dtype="tensor(int64)", shape=TOKENS) for name in ("input_ids", "attention_mask")]
TYPES = Edge(name="token_type_ids", dtype="tensor(int64)", shape=TOKENS)
Feeds = dict[str, np.ndarray[Any, Any]]


class Graph:
    """A graph that gives fixed logits for each row in turn, and keeps what it was fed."""

    def __init__(self, *rows: list[float]) -> None:
        self.rows, self.fed = iter(rows), list[Feeds]()

    def __call__(self, feeds: Feeds) -> np.ndarray[Any, Any]:
        self.fed.append(feeds)
        return np.array([next(self.rows)], np.float32)


def test_each_row_runs_alone_with_a_mask_of_ones() -> None:
    rows = card("tone", canary_ids=[[1, 4, 2], [1, 2]], canary_logits=[[0.5, -1.0], [2.0, 0.25]])
    graph = Graph([0.5, -1.0], [2.0, 0.25])
    check_canaries(graph, EDGES, rows, BUNDLE)
    fed = [{name: array.tolist() for name, array in feeds.items()} for feeds in graph.fed]
    assert fed == [
        {"input_ids": [[1, 4, 2]], "attention_mask": [[1, 1, 1]]},
        {"input_ids": [[1, 2]], "attention_mask": [[1, 1]]},
    ]


@pytest.mark.parametrize(("kept", "fed"), [([[0, 1, 1]], [[0, 1, 1]]), ([], [[0, 0, 0]])])
def test_token_types_are_the_rows_own_or_zeros(kept: list[list[int]], fed: list[list[int]]) -> None:
    rows = card("tone", canary_ids=[[1, 4, 2]], canary_token_type_ids=kept)
    graph = Graph([0.0, 0.0])
    check_canaries(graph, [*EDGES, TYPES], rows, BUNDLE)
    assert graph.fed[0]["token_type_ids"].tolist() == fed


def test_token_types_are_not_fed_to_a_graph_without_them() -> None:
    graph = Graph([0.0, 0.0])
    check_canaries(graph, EDGES, card("tone", canary_ids=[[1, 4]], canary_token_type_ids=[[0, 1]]), BUNDLE)
    assert graph.fed[0].keys() == {"input_ids", "attention_mask"}


def test_the_cache_is_zeros_and_a_banks_weights_are_not_fed() -> None:
    cache = Edge(name="past_key_values.0.key", dtype="tensor(float16)", shape=["batch", 2, "max_length", 4])
    bank = Edge(name="bank.a.weight", dtype="tensor(float)", shape=["slots", 4])
    graph = Graph([0.0, 0.0])
    check_canaries(graph, [*EDGES, cache, bank], card("tone", canary_ids=[[1, 4, 2]]), BUNDLE)
    assert "bank.a.weight" not in graph.fed[0]
    key = graph.fed[0]["past_key_values.0.key"]
    assert (key.shape, key.dtype) == ((1, 2, 3, 4), np.float16)
    assert not key.any()


def test_only_the_adapters_own_labels_of_a_wider_bank_are_compared() -> None:
    check_canaries(Graph([0.5, -1.0, 9.0]), EDGES, card("tone", canary_logits=[[0.5, -1.0]]), BUNDLE)


def test_of_a_generator_the_first_generated_tokens_logit_is_compared() -> None:
    rows = card("tone", labels=[], canary_tokens=[[2, 0]], canary_logits=[[7.0, 3.0]])
    check_canaries(Graph([0.0, 0.0, 7.0]), EDGES, rows, BUNDLE)
    with pytest.raises(ParityError, match="adapter tone"):
        check_canaries(Graph([7.0, 0.0, 6.5]), EDGES, rows, BUNDLE)


def test_other_logits_than_pytorchs_end_the_conversion() -> None:
    with pytest.raises(ParityError, match=r"adapter tone does not give the logits .*; nothing was written"):
        check_canaries(Graph([0.5, -1.5]), EDGES, card("tone", canary_logits=[[0.5, -1.0]]), BUNDLE)
