"""The tasks that can be exported, by what was learned; a new one is a file beside this one and a line in the table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adamix_export.checkpoint.checkpoint import Source
from adamix_export.parity.comparison import Check, Parity
from adamix_export.tasks import classification, generation
from adamix_export.tracing.bank import Stacks
from serve.bundle.reader import Bundle


@dataclass(frozen=True, kw_only=True)
class ExportTask:
    """How a kind of model is written and checked."""

    tag: str
    """The bundle's task, as the Hub calls it."""
    canaries: Callable[[Source], dict[str, Any]]
    """Returns the fields of an adapter's card that show, wherever it is loaded, that it answers."""
    write_graph: Callable[[PreTrainedModel, PreTrainedTokenizerBase, Stacks | None, Path], None]
    """Takes the base with its adapter, or with the stacks of a bank, and writes the graph."""
    rows: int
    """Most rows of the comparison, unless another number is asked for."""
    compare: Callable[[Sequence[Source], Bundle, Check], dict[str, Parity]]
    """Runs the bundle in ONNX Runtime against PyTorch; returns a report for every source."""
    passages: Callable[[Source, Path | None, int], list[list[int]]] = lambda source, file, count: []
    """Returns token ids of so many labelled texts, of a file or of what the run was trained on, to calibrate on."""


EXPORT_TASKS: dict[str, ExportTask] = {
    "classification": ExportTask(
        tag="text-classification",
        canaries=classification.canaries,
        write_graph=classification.write_graph,
        rows=500,
        compare=classification.compare,
    ),
    "regression": ExportTask(
        tag="text-classification",
        canaries=classification.canaries,
        write_graph=classification.write_graph,
        rows=500,
        compare=classification.compare,
    ),
    "generation": ExportTask(
        tag="text-generation",
        canaries=partial(generation.canaries, generation.CAUSAL),
        write_graph=generation.write_decoder,
        rows=48,
        compare=partial(generation.compare, generation.CAUSAL),
        passages=generation.passages,
    ),
    "sequence-to-sequence": ExportTask(
        tag="text2text-generation",
        canaries=partial(generation.canaries, generation.SEQ2SEQ),
        write_graph=generation.write_encoder_decoder,
        rows=48,
        compare=partial(generation.compare, generation.SEQ2SEQ),
    ),
}
"""By the key of `adamix_train.objectives.OBJECTIVES` that was learned."""
