"""The parts of a bundle: its graphs, adapters, tokenizer and manifest."""

import json
import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from adamix_export.checkpoint.checkpoint import Source
from adamix_export.errors import ExportError
from adamix_export.hub.model_card import base_name
from adamix_export.pipeline.options import Options, Progress
from adamix_export.precision.calibration import Passage, collect
from adamix_export.precision.weight_only import Grams
from adamix_export.tasks.table import ExportTask
from adamix_export.tracing.bank import make_bank
from adamix_export.tracing.merged import merge, weights_to
from serve.adapters.bank import Bank
from serve.bundle.adapter import WEIGHTS, AdapterCard, read_adapter, write_card
from serve.bundle.checked_json import file_sha256
from serve.bundle.manifest import ADAPTERS, ENCODER, MODEL, TOKENIZER, Edge, Manifest
from serve.runtime.graph_check import session_edges
from serve.runtime.providers import CPU, ProviderChoice
from serve.runtime.session import open_session

logger = logging.getLogger(__name__)
PACKAGES = ("adamix", "torch", "transformers", "peft", "onnx", "onnxscript")
PASSAGES = 48
"""Texts of a calibration."""
RIGHT = "right"
"""The end of a text, which a tokenizer truncates unless it says otherwise; prompts are truncated by their kind."""
LONGEST = 2**31 - 1


def _write_adapter(task: ExportTask, source: Source, folder: Path, *, tokenizer_sha256: str) -> None:
    folder.mkdir(parents=True)
    save_file(weights_to(source.adapter, torch.float32), folder / WEIGHTS)
    card = AdapterCard(
        name=source.name,
        sha256=file_sha256(folder / WEIGHTS),
        base_sha256=source.card.base_sha256,
        tokenizer_sha256=tokenizer_sha256,
        kind=source.config.kind,
        r=source.config.r,
        num_modules=source.config.num_modules,
        labels=source.labels,
        max_length=source.card.max_length,
        pairs=source.pairs,
        regression=source.regression,
        metric=source.card.metric,
        metrics=source.metrics,
        shares=list(source.shares),
        **task.canaries(source),
    )
    write_card(folder, card)


def _write_tokenizer(sources: Sequence[Source], file: Path) -> None:
    """Write the tokenizer without padding, and with truncation only where it is not of the end.

    Serving sets both itself; of the truncation written it takes all but the length, which each adapter has of its own.
    """
    definitions = set()
    for source in sources:
        tokenizer = Tokenizer.from_file(str(source.folder / TOKENIZER))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if source.tokenizer.truncation_side != RIGHT and not source.objective.is_generative:
            length = min(source.tokenizer.model_max_length, LONGEST)
            tokenizer.enable_truncation(length, direction=source.tokenizer.truncation_side)
        definitions.add(tokenizer.to_str(pretty=True))
    if len(definitions) > 1:
        raise ExportError("the checkpoints have different tokenizers: a bank has one")
    file.write_text(definitions.pop(), "utf-8")


def _write_model(task: ExportTask, shape: str, sources: Sequence[Source], folder: Path) -> None:
    first = sources[0]
    model = first.base_model()
    stacks = None
    if shape == "bank":
        stacks = make_bank(model, [source.adapter for source in sources])
    else:
        merge(model, first.adapter)
    task.write_graph(model, first.tokenizer, stacks, folder / MODEL)
    (folder / "config.json").write_text(json.dumps(model.config.to_diff_dict(), indent=2, sort_keys=True) + "\n")


def _calibrate(
    task: ExportTask, shape: str, sources: Sequence[Source], folder: Path, options: Options, progress: Progress
) -> Grams:
    """Return what the matrices of the graph meet on texts of every source, each through its adapter."""
    progress("calibrating")
    passages = [
        Passage(ids, slot)
        for slot, source in enumerate(sources, 1)
        for ids in task.passages(source, options.calibration, PASSAGES // len(sources) or 1)
    ]
    if not passages:
        logger.warning(
            "%s without texts to calibrate on rounds to the nearest values, which costs more: name some with "
            "--calibration-data",
            options.precision,
        )
        return {}
    adapters = [read_adapter(folder / ADAPTERS / source.name) for source in sources]
    edges, _ = _edges(folder / MODEL)
    return collect(folder / MODEL, passages, Bank(edges, adapters) if shape == "bank" else None)


def _manifest(task: ExportTask, shape: str, sources: Sequence[Source], folder: Path) -> Manifest:
    first = sources[0]
    inputs, outputs = _edges(folder / MODEL)
    encoder_inputs, encoder_outputs = _edges(folder / ENCODER) if (folder / ENCODER).exists() else ([], [])
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return Manifest(
        task=task.tag,
        shape=shape,
        precision="fp32",
        base={
            "name": base_name(first),
            "sha256": first.card.base_sha256,
            "model_type": config["model_type"],
        },
        pad_token_id=config.get("pad_token_id") or 0,
        adapters=[source.name for source in sources],
        inputs=inputs,
        outputs=outputs,
        encoder_inputs=encoder_inputs,
        encoder_outputs=encoder_outputs,
        start_token_id=config.get("decoder_start_token_id"),
        fused_attention=_fuses_attention(folder / MODEL),
        parity={},
        versions={**{package: version(package) for package in PACKAGES}, "onnxruntime": ort.__version__},
    )


def _fuses_attention(graph: Path) -> bool:
    nodes = onnx.load(graph, load_external_data=False).graph.node
    return any(node.op_type.endswith("Attention") for node in nodes)


def _edges(graph: Path) -> tuple[list[Edge], list[Edge]]:
    return session_edges(open_session(graph, ProviderChoice(CPU, "to read the graph's edges")))
