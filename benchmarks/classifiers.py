"""The sides of `benchmarks.classify`: one merged classifier, read from one folder, run by three systems."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from adamix_export.graph.encoder import write_graph
from benchmarks.errors import PeerError
from benchmarks.machine import usable_cores
from benchmarks.peers import PEERS
from benchmarks.report import Absent
from benchmarks.sample import TOKEN_INPUTS, merged_classifier
from serve.session import CPU, Choice, open_session

OURS, TORCH, OPTIMUM = "adamix", "pytorch", "optimum"

Feed = dict[str, NDArray[np.int64]]
"""Token inputs (batch, sequence) by name."""
Logits = NDArray[np.float32]
"""(batch, labels)"""
Call = Callable[[], Logits]
Side = Callable[[Feed], Call]
"""Prepares the inputs, which is not timed, and returns what is timed."""


def open_sides(scratch: Path) -> tuple[dict[str, Side], list[Absent]]:
    """Return the sides by name, and the peers that are not there; `scratch` keeps the files that they run."""
    sides: dict[str, Side] = {}
    absent: list[Absent] = []
    with tqdm(total=1 + len(MAKERS), desc="preparing: merging", bar_format="{desc} {bar}| {elapsed}") as stages:
        merged_classifier().save_pretrained(scratch / "merged")
        for name, make in MAKERS.items():
            stages.update()
            stages.set_description(f"preparing: {name}")
            try:
                sides[name] = make(scratch / "merged", scratch)
            except PeerError as error:
                absent.append(Absent(peer=name, reason=str(error)))
        stages.update()
    return sides, absent


def adamix_side(model: Path, scratch: Path) -> Side:
    """Return the graph that adamix-export writes."""
    write_graph(_load(model), TOKEN_INPUTS, None, scratch / "adamix.onnx")
    return _onnx_side(scratch / "adamix.onnx")


def pytorch_side(model: Path, scratch: Path) -> Side:
    """Return PyTorch eager in inference mode with its fused attention, on as many threads as the others."""
    torch.set_num_threads(usable_cores())
    loaded = _load(model, attn_implementation="sdpa")

    def prepare(feed: Feed) -> Call:
        tensors = {name: torch.from_numpy(ids) for name, ids in feed.items()}

        @torch.inference_mode()
        def call() -> Logits:
            logits: Logits = loaded(**tensors).logits.numpy()
            return logits

        return call

    return prepare


def optimum_side(model: Path, scratch: Path) -> Side:
    """Return optimum's export at its optimisation level O2, in our ONNX Runtime."""
    return _onnx_side(PEERS[OPTIMUM].convert("optimum_export.py", model) / "model_optimized.onnx")


MAKERS: dict[str, Callable[[Path, Path], Side]] = {
    OURS: adamix_side,
    TORCH: pytorch_side,
    OPTIMUM: optimum_side,
}
"""Side → what makes it from the merged model's folder and a folder for files of its own."""


def _onnx_side(file: Path) -> Side:
    session = open_session(file, Choice(CPU, "as asked"), threads=usable_cores())

    def prepare(feed: Feed) -> Call:
        def call() -> Logits:
            logits: Logits = session.run(["logits"], feed)[0]
            return logits

        return call

    return prepare


def _load(folder: Path, **kwargs: Any) -> PreTrainedModel:
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32", **kwargs)
    return model.requires_grad_(False).eval()
