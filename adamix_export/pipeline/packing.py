"""The packed graph of a bundle: without padding, over the weights of the model's graph."""

from pathlib import Path

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.errors import ExportError
from adamix_export.passes.pack_tokens import pack_tokens
from adamix_export.passes.rewrite_file import derive_file
from adamix_export.tasks.table import ExportTask
from adamix_train.base_model.architecture import is_decoder
from adamix_train.base_model.load import load_config
from serve.bundle.manifest import MODEL, PACKED

PRECISIONS = ("fp16", "fp32")
"""Precisions that the packed operators compute in."""


def require_packable(checkpoint: Checkpoint, task: ExportTask, precision: str) -> None:
    """Raise an `ExportError` if a checkpoint's task or a precision has no packed graph, before anything is traced."""
    if not task.can_be_packed:
        raise ExportError(
            f"--packed is for classifiers; {checkpoint.name} was trained for {checkpoint.objective_name}: export it "
            "without --packed"
        )
    config = load_config(checkpoint.base)
    if is_decoder(config) or config.is_encoder_decoder:
        raise ExportError(
            f"{checkpoint.name} is on a {config.model_type}, whose attention is causal, and packed attention is not: "
            "export it without --packed"
        )
    if precision not in PRECISIONS:
        raise ExportError(f"--packed is for GPUs, in {' or '.join(PRECISIONS)}; not in {precision}")


def write_packed_graph(folder: Path) -> None:
    """Write the packed graph of a bundle; raise an `ExportError` if the model's graph cannot be packed."""
    derive_file(folder / MODEL, pack_tokens, folder / PACKED)
