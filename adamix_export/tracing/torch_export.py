"""From a traced module to an ONNX file."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import Dim

from adamix_export.errors import ExportError
from adamix_export.passes.simplify import simplify

Shapes = dict[str, tuple[int | str, ...]]
SYMBOLS = {"batch": 3, "sequence": 7, "slots": 5, "labels": 4, "total": 9, "source": 8, "max_length": 17}
"""Example sizes: all different and above 1, so that tracing takes none for a constant or for another one."""
RANK = 11
"""Example rank of the first kind; further kinds count on by two."""


def write_program(
    module: nn.Module,
    shapes: Mapping[str, tuple[int | str, ...]],
    *,
    outputs: Sequence[str],
    floats: Sequence[str],
    file: Path,
    further: Sequence[Callable[[ir.Model], None]] = (),
) -> None:
    """Write the ONNX graph of `module`, which takes a dict of tensors, weights beside it as external data.

    `shapes` are those of its inputs, a symbol for a dimension that may change; inputs are int64 unless their name
    starts with one of `floats`. `further` are steps that the graph is simplified by.
    """
    sizes = _sizes(shapes)
    dims = {symbol: Dim(symbol) for symbol in sizes}
    with _quiet(), _told():
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
        program.save(file, external_data=True)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what went wrong in the exporter into one line: our own error inside it, or the first cause."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        causes = list(_causes(error))
        ours = [cause for cause in causes if isinstance(cause, ExportError)]
        first = (str(causes[-1]).strip() or type(causes[-1]).__name__).splitlines()[0]
        raise ours[0] if ours else ExportError(f"torch cannot export this model's graph: {first}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sizes(shapes: Mapping[str, tuple[int | str, ...]]) -> dict[str, int]:
    symbols = sorted({dim for shape in shapes.values() for dim in shape if isinstance(dim, str)})
    ranks = [symbol for symbol in symbols if symbol not in SYMBOLS]
    return {**{s: SYMBOLS[s] for s in symbols if s in SYMBOLS}, **{s: RANK + 2 * i for i, s in enumerate(ranks)}}


def _example(name: str, shape: tuple[int | str, ...], sizes: dict[str, int], floats: tuple[str, ...]) -> Tensor:
    """Return a new tensor: one object given twice would be taken for one input."""
    dims = [sizes[dim] if isinstance(dim, str) else dim for dim in shape]
    return torch.randn(dims) if name.startswith(floats) else torch.ones(dims, dtype=torch.int64)


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
