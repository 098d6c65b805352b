"""The names, compared with graphs that spell them out."""

import numpy as np

from serve.bundle.graph_io import (
    ADAPTER_IDS,
    ATTENTION_MASK,
    BANK,
    BATCH,
    INPUT_IDS,
    LABELS,
    LOGIT_OFFSETS,
    LOGITS,
    MAX_LENGTH,
    PAST,
    POSITIONS,
    PRESENT,
    SEQUENCE,
    SLOTS,
    TOTAL,
)
from tests.fixtures.hand_computed_decoder import graph_of, random_decoder
from tests.serve.conftest import SITE, WIDTH, WORDS, bank_graph, edges_of

CLASSIFIER = bank_graph(np.zeros((len(WORDS), WIDTH), np.float32)).graph
DECODER = graph_of(random_decoder()).graph
INPUTS = {edge.name: edge.shape for edge in edges_of(CLASSIFIER.input)}
DECODER_INPUTS = {edge.name: edge.shape for edge in edges_of(DECODER.input)}


def test_inputs_of_a_bank_are_tokens_slots_and_stacks() -> None:
    stacks = {name for name in INPUTS if name.startswith(BANK)}
    assert INPUTS.keys() - stacks == {INPUT_IDS, ATTENTION_MASK, ADAPTER_IDS}
    assert {name.removeprefix(BANK) for name in stacks} == {
        f"{SITE}.lora.down.weight",
        f"{SITE}.lora.up.weight",
        "classifier.head.weight",
        "classifier.head.bias",
    }


def test_dimensions_of_a_classifier_are_named() -> None:
    assert INPUTS[INPUT_IDS] == INPUTS[ATTENTION_MASK] == [BATCH, SEQUENCE]
    assert INPUTS[ADAPTER_IDS] == [BATCH]
    assert INPUTS[f"{BANK}classifier.head.weight"] == [SLOTS, WIDTH, LABELS]
    assert {edge.name: edge.shape for edge in edges_of(CLASSIFIER.output)} == {LOGITS: [BATCH, LABELS]}


def test_a_decoder_masks_cached_and_new_tokens_together() -> None:
    assert DECODER_INPUTS[INPUT_IDS] == [BATCH, SEQUENCE]
    assert DECODER_INPUTS[ATTENTION_MASK] == [BATCH, TOTAL]


def test_the_positions_of_the_logits_are_an_input() -> None:
    assert DECODER_INPUTS[LOGIT_OFFSETS] == [POSITIONS]


def test_every_cache_that_a_decoder_reads_it_writes() -> None:
    past = {name.removeprefix(PAST): shape for name, shape in DECODER_INPUTS.items() if name.startswith(PAST)}
    outputs = {edge.name: edge.shape for edge in edges_of(DECODER.output)}
    assert outputs.pop(LOGITS) == [BATCH, POSITIONS, len(WORDS)]
    assert {name.removeprefix(PRESENT): shape for name, shape in outputs.items()} == past
    assert past.keys() == {"0.key", "0.value"}
    assert past["0.key"][0] == BATCH
    assert past["0.key"][2] == MAX_LENGTH
