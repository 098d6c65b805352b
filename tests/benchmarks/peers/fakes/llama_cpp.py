"""llama-cpp-python over a model that adds: the likeliest token is the sum of its sequence, modulo the vocabulary.

A model file holds the size of the vocabulary.
"""

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class Context:
    def __init__(self, size: int, params: SimpleNamespace) -> None:
        self.size, self.params = size, params
        self.memory: dict[int, list[int]] = {}
        self.logits: dict[int, Any] = {}


def llama_backend_init() -> None:
    pass


def llama_model_default_params() -> None:
    pass


def llama_model_load_from_file(file: bytes, params: None) -> int:
    return int(Path(file.decode()).read_text())


def llama_context_default_params() -> SimpleNamespace:
    return SimpleNamespace()


def llama_init_from_model(model: int, params: SimpleNamespace) -> Context:
    return Context(model, params)


def llama_model_get_vocab(model: int) -> int:
    return model


def llama_vocab_n_tokens(vocab: int) -> int:
    return vocab


def llama_batch_init(tokens: int, embeddings: int, sequences: int) -> SimpleNamespace:
    return SimpleNamespace(
        n_tokens=0,
        token=[0] * tokens,
        pos=[0] * tokens,
        n_seq_id=[0] * tokens,
        seq_id=[[0] * sequences for _ in range(tokens)],
        logits=[False] * tokens,
    )


def llama_get_memory(context: Context) -> dict[int, list[int]]:
    return context.memory


def llama_memory_clear(memory: dict[int, list[int]], data: bool) -> None:
    memory.clear()


def llama_decode(context: Context, batch: SimpleNamespace) -> int:
    """Return 0, or -1 for one sequence too many and for a token that does not follow those of its sequence."""
    context.logits = {}
    for index in range(batch.n_tokens):
        sequence, *_ = batch.seq_id[index][: batch.n_seq_id[index]]
        tokens = context.memory.setdefault(sequence, [])
        if sequence >= context.params.n_seq_max or batch.pos[index] != len(tokens):
            return -1
        tokens.append(batch.token[index])
        if batch.logits[index]:
            logits = context.logits[index] = (ctypes.c_float * context.size)()
            logits[sum(tokens) % context.size] = 1.0
    return 0


def llama_get_logits_ith(context: Context, place: int) -> Any:
    return context.logits[place]
