"""Export of a torch module to an ONNX file."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from adamix_export.errors import ExportError, first_line
from adamix_export.passes.default_inputs import set_default
from adamix_export.passes.simplify import simplify
from serve.bundle.graph_io import BATCH, LABELS, MAX_LENGTH, POSITIONS, SEQUENCE, SLOTS, SOURCE, TOTAL

Shapes = dict[str, tuple[int | str, ...]]
SYMBOLS = {BATCH: 3, SEQUENCE: 7, SLOTS: 5, LABELS: 4, TOTAL: 9, SOURCE: 8, MAX_LENGTH: 17, POSITIONS: 6}
"""Example sizes. All differ and are above 1, so that tracing treats none as constant or as equal to another."""
RANK = 11
"""Example rank of the first adapter kind; that of each further kind is larger by two."""


def write_onnx(
    module: nn.Module,
    shapes: Mapping[str, tuple[int | str, ...]],
    *,
    outputs: Sequence[str],
    floats: Sequence[str],
    file: Path,
    further: Sequence[Callable[[ir.Model], None]] = (),
    defaults: Mapping[str, NDArray[np.generic]] = MappingProxyType({}),
) -> None:
    """Write the ONNX graph of `module`, which takes a dict of tensors, with its weights beside it as external data.

    `shapes` are those of its inputs, with a symbol for each dynamic dimension; `outputs` are names. Inputs are int64
    unless their name starts with one of `floats`. `further` are passes applied while the graph is simplified.
    `defaults` are values of inputs that a run may leave out.

    Raises:
        ExportError: torch cannot export the module.

    """
    sizes = _sizes(shapes)
    dims = {symbol: Dim(symbol) for symbol in sizes}
    with _quiet(), _export_errors():
        program = torch.onnx.export(
            module,
            kwargs={"tensors": {name: _example(name, shape, sizes, tuple(floats)) for name, shape in shapes.items()}},
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
            output_names=list(outputs),
        )
        assert program is not None
        simplify(program.model, further)
        for name, value in defaults.items():
            set_default(program.model.graph, name, value)
        program.save(file, external_data=True)


@contextmanager
def _export_errors() -> Iterator[None]:
    """Turn an error of torch's exporter into an `ExportError`: the one that caused it, or one with its first cause."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        causes = list(_causes(error))
        ours = [cause for cause in causes if isinstance(cause, ExportError)]
        reason = f"torch cannot export this model's graph: {first_line(causes[-1])}"
        raise ours[0] if ours else ExportError(reason) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sizes(shapes: Mapping[str, tuple[int | str, ...]]) -> dict[str, int]:
    symbols = sorted({dim for shape in shapes.values() for dim in shape if isinstance(dim, str)})
    ranks = [symbol for symbol in symbols if symbol not in SYMBOLS]
    return {**{s: SYMBOLS[s] for s in symbols if s in SYMBOLS}, **{s: RANK + 2 * i for i, s in enumerate(ranks)}}


def _example(name: str, shape: tuple[int | str, ...], sizes: dict[str, int], floats: tuple[str, ...]) -> Tensor:
    """Return a new tensor; the exporter would treat one object given twice as one input."""
    dims = [sizes[dim] if isinstance(dim, str) else dim for dim in shape]
    return torch.randn(dims) if name.startswith(floats) else torch.ones(dims, dtype=torch.int64)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's warnings about missing packages and about names of its own choice."""
    logger: Any = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
