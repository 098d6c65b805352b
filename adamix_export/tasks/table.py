"""The exportable tasks by training objective; a new one is a module in this folder and an entry of the table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.parity.bounds import Check
from adamix_export.parity.report import Parity
from adamix_export.precision.calibration import CalibrationText
from adamix_export.tasks import classification, generation, generation_parity
from adamix_export.tasks.reference_logits import CAUSAL, SEQ2SEQ
from adamix_export.tracing.stacks import Stacks
from serve.bundle.reader import Bundle


@dataclass(frozen=True, kw_only=True)
class ExportTask:
    """Functions that export and compare one kind of model."""

    tag: str
    """The bundle's task, by the Hub's name."""
    canaries: Callable[[Checkpoint], dict[str, Any]]
    """Returns the fields of an adapter's card with inputs and PyTorch's results, checked whenever it is loaded."""
    write_graph: Callable[[PreTrainedModel, PreTrainedTokenizerBase, Stacks | None, Path], None]
    """Writes the graph of a base with a merged adapter, or with the stacks of a bank."""
    default_limit: int
    """Default maximum number of texts in a comparison."""
    compare: Callable[[Sequence[Checkpoint], Bundle, Check], dict[str, Parity]]
    """Compares the bundle in ONNX Runtime with PyTorch; returns a report for every checkpoint."""
    can_be_packed: bool = False
    """The graph may also be written without padding."""
    calibration_texts: Callable[[Checkpoint, Path | None, int], list[CalibrationText]] = (
        lambda checkpoint, file, count: []
    )
    """Returns a number of labelled texts, from a file or from the run's training data."""


CLASSIFICATION = ExportTask(
    tag="text-classification",
    canaries=classification.canaries,
    write_graph=classification.write_graph,
    default_limit=500,
    compare=classification.compare,
    can_be_packed=True,
    calibration_texts=classification.calibration_texts,
)
EXPORT_TASKS: dict[str, ExportTask] = {
    "classification": CLASSIFICATION,
    "regression": CLASSIFICATION,
    "generation": ExportTask(
        tag="text-generation",
        canaries=partial(generation.canaries, CAUSAL),
        write_graph=generation.write_decoder,
        default_limit=48,
        compare=partial(generation_parity.compare, CAUSAL),
        calibration_texts=generation.calibration_texts,
    ),
    "sequence-to-sequence": ExportTask(
        tag="text2text-generation",
        canaries=partial(generation.canaries, SEQ2SEQ),
        write_graph=generation.write_encoder_decoder,
        default_limit=48,
        compare=partial(generation_parity.compare, SEQ2SEQ),
    ),
}
"""Tasks by training objective, a key of `adamix_train.training.objectives.OBJECTIVES`."""
