"""Costs of one replica, a server on one core, measured on this machine."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.support.bundles import adapter_bytes, like
from serve.bundle.adapter import WEIGHTS, Adapter, read_adapter, write_card
from serve.bundle.checked_json import file_sha256
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.classification.text_tokenizer import EncodedText

RANKS = (8, 128)
"""Ranks between which costs are taken to be linear."""
SHAPES = ((1, 16), (1, 32), (1, 64), (4, 32), (8, 48), (16, 32))
"""Runs that are timed, as (texts, tokens of each)."""
ADAPTERS = 24
"""Adapters of each rank that are loaded and written into slots."""
MAX_WORDS = 25_000


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds on one core, and bytes. A bank's width is the largest rank that it has had to hold."""

    run: float
    """A run, whatever its size."""
    token: float
    """A padded token of a run, without adapters."""
    token_rank: float
    """The same for each unit of the bank's width."""
    slot: float
    """Writing an adapter into a slot, from host memory."""
    slot_rank: float
    """The same for each unit of the bank's width."""
    load: float
    """Loading an adapter on first use: files, hash, canary rows."""
    request: float = 0.0
    """HTTP, JSON, tokens and the queue for one request."""
    rank_bytes: float
    """Host memory of an adapter for each unit of its rank."""

    def batch(self, tokens: Sequence[int], *, width: int, slot_writes: int) -> float:
        """Return the seconds of a batch: its texts' tokens, the bank's width, adapters that have to get a slot."""
        padded = len(tokens) * max(tokens)
        return (
            self.run
            + padded * (self.token + width * self.token_rank)
            + slot_writes * (self.slot + width * self.slot_rank)
            + len(tokens) * self.request
        )

    def as_dict(self) -> dict[str, float]:
        """Return the costs by name."""
        return asdict(self)


def measure_costs(bank: Bundle, folder: Path, *, repeats: int) -> Costs:
    """Return the costs of a replica of this bank, without those of HTTP."""
    widths = {rank: _with_rank(bank, rank, folder / str(rank)) for rank in RANKS}
    opened = {rank: Classifier(one, provider="cpu", threads=1, slots=2) for rank, one in widths.items()}
    run, token, token_rank = _run_costs(opened, repeats)
    folders = {rank: like(one, ADAPTERS, folder / f"like-{rank}") for rank, one in widths.items()}
    slots = {rank: _slot_seconds(opened[rank], folders[rank]) for rank in RANKS}
    loads = [_seconds(lambda one=one: opened[RANKS[0]].load(one)) for one in folders[RANKS[0]]]  # type: ignore[misc]
    slot_rank = (slots[RANKS[1]] - slots[RANKS[0]]) / (RANKS[1] - RANKS[0])
    return Costs(
        run=run,
        token=token,
        token_rank=token_rank,
        slot=max(0.0, slots[RANKS[0]] - RANKS[0] * slot_rank),
        slot_rank=slot_rank,
        load=statistics.median(loads),
        rank_bytes=adapter_bytes(read_adapter(folders[RANKS[1]][0])) / RANKS[1],
    )


def _run_costs(opened: dict[int, Classifier], repeats: int) -> tuple[float, float, float]:
    """Return the costs of a run, of a token, and of a token for each unit of width, by least squares."""
    timings: dict[tuple[int, int, int], list[float]] = {}
    for _ in range(repeats):
        for rank, classifier in opened.items():
            (adapter, *_) = classifier.registry.adapters.values()
            for rows, tokens in SHAPES:
                batch = [_text(adapter, tokens)] * rows
                classifier.run(batch)
                seconds = _seconds(lambda batch=batch, one=classifier: one.run(batch))  # type: ignore[misc]
                timings.setdefault((rank, rows, tokens), []).append(seconds)
    keys = list(timings)
    system = np.array([[1.0, rows * tokens, rows * tokens * rank] for rank, rows, tokens in keys])
    found = np.array([statistics.median(timings[key]) for key in keys])
    weights = 1 / found  # errors count in proportion
    run, token, token_rank = np.linalg.lstsq(system * weights[:, None], found * weights, rcond=None)[0]
    return float(run), float(token), float(max(0.0, token_rank))


def _slot_seconds(classifier: Classifier, folders: Sequence[Path]) -> float:
    """Return the median seconds of writing an adapter into a slot."""
    assert classifier.bank is not None
    bank, adapters = classifier.bank, [read_adapter(folder) for folder in folders]
    for adapter in adapters:
        _ = adapter.tensors  # into host memory
    return statistics.median(_seconds(lambda one=one: bank.place([one])) for one in adapters)  # type: ignore[misc]


def _with_rank(bank: Bundle, rank: int, folder: Path) -> Bundle:
    """Return a bank with one adapter, of this rank."""
    (first, *_) = bank.adapters.values()
    random = np.random.default_rng(rank)
    tensors = {name: _resized(name, tensor, rank, random) for name, tensor in first.tensors.items()}
    folder.mkdir(parents=True)
    save_file(tensors, folder / WEIGHTS)
    card = replace(first.card, name=folder.name, r=rank, sha256=file_sha256(folder / WEIGHTS))
    write_card(folder, card)
    unchecked = replace(bank, adapters={card.name: first})
    (logits,) = Classifier(unchecked, provider="cpu", threads=1, slots=2).canary_logits([read_adapter(folder)])
    write_card(folder, replace(card, canary_logits=logits.tolist()))
    return replace(bank, adapters={card.name: read_adapter(folder)})


def _resized(name: str, tensor: np.ndarray, rank: int, random: np.random.Generator) -> np.ndarray:
    if ".down." in name:
        return random.normal(0, 0.02, (rank, tensor.shape[1])).astype(np.float32)
    if ".up." in name:
        return random.normal(0, 0.02, (tensor.shape[0], rank)).astype(np.float32)
    return tensor


def _text(adapter: Adapter, tokens: int) -> EncodedText:
    ids = np.random.default_rng(tokens).integers(1000, MAX_WORDS, tokens).tolist()
    return EncodedText(ids, [0] * tokens, adapter)


def _seconds(call: Callable[[], object]) -> float:
    """Return the processor time of a call, which other programs on the machine change little."""
    start = time.process_time()
    call()
    return time.process_time() - start
