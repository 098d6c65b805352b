"""Trace a classifier and write its ONNX graph."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxscript.optimizer
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn
from torch.export import Dim
from transformers import PreTrainedModel

from adamix_export.graph.attention import register
from adamix_export.graph.bank import Stacks
from serve.bank import PREFIX

SYMBOLS = {"batch": 3, "sequence": 7, "slots": 5, "labels": 4}
"""Example sizes: all different and above 1, so that tracing takes none for a constant or for another one."""
RANK = 11
"""Example rank of the first kind; further kinds count on."""


class Encoder(nn.Module):
    """A classifier whose inputs, stacks included, come as one dict and whose output is its logits."""

    def __init__(self, model: PreTrainedModel, stacks: Stacks | None) -> None:
        super().__init__()
        self.model, self.stacks = model, stacks

    def forward(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return logits (batch, labels)."""
        inputs = dict(tensors)
        if self.stacks is not None:
            self.stacks.adapter_ids = inputs.pop("adapter_ids")
            self.stacks.values = {name: inputs.pop(PREFIX + name) for name in self.stacks.shapes}
        return self.model(**inputs).logits


def write_graph(model: PreTrainedModel, token_inputs: list[str], stacks: Stacks | None, file: Path) -> None:
    """Write the ONNX graph of `model` to `file`, weights beside it as external data.

    `token_inputs` are the tokenizer's outputs that the model takes; with `stacks` the graph has `adapter_ids` and the
    bank's inputs as well.
    """
    shapes: dict[str, tuple[int | str, ...]] = dict.fromkeys(token_inputs, ("batch", "sequence"))
    if stacks is not None:
        shapes["adapter_ids"] = ("batch",)
        shapes |= {PREFIX + name: shape for name, shape in stacks.shapes.items()}
    model.set_attn_implementation(register())
    sizes = _sizes(shapes)
    dims = {symbol: Dim(symbol) for symbol in sizes}
    with _quiet():
        program = torch.onnx.export(
            Encoder(model, stacks).eval(),
            kwargs={"tensors": {name: _example(name, shape, sizes) for name, shape in shapes.items()}},
            dynamo=True,
            optimize=False,
            verbose=False,
            dynamic_shapes={
                "tensors": {
                    name: {axis: dims[dim] for axis, dim in enumerate(shape) if isinstance(dim, str)}
                    for name, shape in shapes.items()
                }
            },
            input_names=list(shapes),
            output_names=["logits"],
        )
        assert program is not None
        onnxscript.optimizer.optimize(program.model)
        # The exporter notes the source lines, and so the paths, of the machine that it ran on.
        ClearMetadataAndDocStringPass()(program.model)
        program.save(file, external_data=True)


def _sizes(shapes: dict[str, tuple[int | str, ...]]) -> dict[str, int]:
    symbols = sorted({dim for shape in shapes.values() for dim in shape if isinstance(dim, str)})
    ranks = [symbol for symbol in symbols if symbol not in SYMBOLS]
    return {**{s: SYMBOLS[s] for s in symbols if s in SYMBOLS}, **{s: RANK + i for i, s in enumerate(ranks)}}


def _example(name: str, shape: tuple[int | str, ...], sizes: dict[str, int]) -> Tensor:
    """Return a new tensor: one object given twice would be taken for one input."""
    dims = [sizes[dim] if isinstance(dim, str) else dim for dim in shape]
    if name.startswith(PREFIX):
        return torch.randn(dims)
    return torch.ones(dims, dtype=torch.int64)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on packages that are not installed and names that it chose itself to itself."""
    logger: Any = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
