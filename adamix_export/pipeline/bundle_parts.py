"""The parts of a bundle: adapters, tokenizer, graphs and manifest."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.collapse import AdapterTensors
from adamix_export.checkpoint.heads import add_missing_heads
from adamix_export.checkpoint.module_distances import module_distances
from adamix_export.errors import BankError, ExportError
from adamix_export.hub.model_card import base_name
from adamix_export.hub.repository import write_gitattributes, write_tokenizer_config
from adamix_export.pipeline.record_fields import record_fields
from adamix_export.tasks.table import ExportTask
from adamix_export.tracing.bank import make_bank
from adamix_export.tracing.merged import weights_to
from adamix_train.base_model.embeddings import UNLIMITED, max_positions
from adamix_train.base_model.load import load_config
from serve.bundle.adapter import WEIGHTS, AdapterCard, write_card
from serve.bundle.checked_json import file_sha256
from serve.bundle.manifest import (
    ADAPTERS,
    ENCODER,
    GENERATION_CONFIG,
    MODEL,
    TOKENIZER,
    TOKENIZER_CONFIG,
    Edge,
    Manifest,
)

CONFIG = "config.json"
PACKAGES = ("adamix", "torch", "transformers", "peft", "onnx", "onnxscript")
RIGHT = "right"
"""The truncation side of most tokenizers; generative models truncate prompts by rules of their own."""
EDGE_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "tensor(float)",
    onnx.TensorProto.FLOAT16: "tensor(float16)",
    onnx.TensorProto.BFLOAT16: "tensor(bfloat16)",
    onnx.TensorProto.INT64: "tensor(int64)",
}
"""ONNX Runtime's names of types."""
MAX_LENGTH = 2**31 - 1
"""Largest length that a tokenizer's file can hold."""


@dataclass(frozen=True, kw_only=True)
class BundleBuild:
    """A bundle being written."""

    task: ExportTask
    shape: str
    """merged or bank."""
    checkpoints: Sequence[Checkpoint]
    folder: Path
    adapters: dict[str, AdapterTensors] = field(default_factory=dict)
    """Tensors of the adapters by name; `write_adapters` fills it in."""

    @property
    def graphs(self) -> list[Path]:
        """The ONNX files that have been written."""
        return [file for file in (self.folder / MODEL, self.folder / ENCODER) if file.exists()]


def write_adapters(build: BundleBuild) -> None:
    """Write the adapters, the tokenizer and the files that a repository of the Hub has."""
    write_tokenizer(build.checkpoints, build.folder / TOKENIZER)
    write_tokenizer_config(build.checkpoints, build.folder / TOKENIZER_CONFIG)
    write_gitattributes(build.folder)
    tokenizer_sha256 = file_sha256(build.folder / TOKENIZER)
    canaries = {}
    for checkpoint in build.checkpoints:
        build.adapters[checkpoint.name] = _tensors(build.shape, checkpoint)
        canaries[checkpoint.name] = build.task.canaries(checkpoint)
        checkpoint.forget_reference()  # each is a whole base
    if build.shape == "bank":
        add_missing_heads(build.checkpoints, build.adapters)
    for checkpoint in build.checkpoints:
        folder = build.folder / ADAPTERS / checkpoint.name
        folder.mkdir(parents=True)
        save_file(weights_to(build.adapters[checkpoint.name], torch.float32), folder / WEIGHTS)
        write_card(folder, _card(checkpoint, folder, tokenizer_sha256, canaries[checkpoint.name]))


def _tensors(shape: str, checkpoint: Checkpoint) -> AdapterTensors:
    """Return an adapter's tensors; none for a merged one that has no form but its base's weights."""
    try:
        return checkpoint.adapter
    except BankError:
        if shape == "bank":
            raise
        return {}


def _card(checkpoint: Checkpoint, folder: Path, tokenizer_sha256: str, canaries: dict[str, Any]) -> AdapterCard:
    return AdapterCard(
        name=checkpoint.name,
        sha256=file_sha256(folder / WEIGHTS),
        base_sha256=checkpoint.card.base_sha256,
        tokenizer_sha256=tokenizer_sha256,
        kind=checkpoint.kind,
        r=checkpoint.r,
        num_modules=checkpoint.num_modules,
        labels=checkpoint.labels,
        max_length=checkpoint.card.max_length,
        pairs=checkpoint.pairs,
        regression=checkpoint.regression,
        metric=checkpoint.card.metric,
        metrics=checkpoint.metrics,
        shares=list(checkpoint.weights),
        member_of=checkpoint.member_of,
        module_distances=module_distances(checkpoint),
        record_fields=record_fields(checkpoint),
        **canaries,
    )


def write_tokenizer(checkpoints: Sequence[Checkpoint], file: Path) -> None:
    """Write the checkpoints' common tokenizer without padding, and with truncation only where it is on the left.

    The server sets the length of both itself, since adapters differ in it, and reads the direction of the truncation.
    """
    definitions = set()
    for checkpoint in checkpoints:
        tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if checkpoint.tokenizer.truncation_side != RIGHT and not checkpoint.objective.is_generative:
            length = min(checkpoint.tokenizer.model_max_length, MAX_LENGTH)
            tokenizer.enable_truncation(length, direction=checkpoint.tokenizer.truncation_side)
        definitions.add(tokenizer.to_str(pretty=True))
    if len(definitions) > 1:
        raise ExportError("the checkpoints have different tokenizers: a bank has one")
    file.write_text(definitions.pop(), "utf-8")


def write_model(build: BundleBuild) -> None:
    """Write the graph and the base's configurations."""
    first = build.checkpoints[0]
    stacks = None
    if build.shape == "bank":
        model = first.base_model()
        stacks = make_bank(model, build.adapters.values())
    else:
        model = first.merged()
    build.task.write_graph(model, first.tokenizer, stacks, build.folder / MODEL)
    config = json.dumps(model.config.to_diff_dict(), indent=2, sort_keys=True)
    (build.folder / CONFIG).write_text(config + "\n")
    if first.objective.is_generative and model.generation_config is not None:
        defaults = json.dumps(model.generation_config.to_diff_dict(), indent=2, sort_keys=True)
        (build.folder / GENERATION_CONFIG).write_text(defaults + "\n")


def make_manifest(build: BundleBuild, *, precision: str, spare_slots: int, quantized_share: float = 0.0) -> Manifest:
    """Return the manifest of the files in the folder, without hashes and parity."""
    first = build.checkpoints[0]
    inputs, outputs = graph_edges(build.folder / MODEL)
    encoder = build.folder / ENCODER
    encoder_inputs, encoder_outputs = graph_edges(encoder) if encoder.exists() else ([], [])
    config: dict[str, Any] = json.loads((build.folder / CONFIG).read_text())
    return Manifest(
        task=build.task.tag,
        shape=build.shape,
        precision=precision,
        quantized_share=quantized_share,
        base={
            "name": base_name(first),
            "sha256": first.card.base_sha256,
            "model_type": config["model_type"],
        },
        pad_token_id=config.get("pad_token_id") or 0,
        max_positions=_max_positions(first),
        adapters=[checkpoint.name for checkpoint in build.checkpoints],
        inputs=inputs,
        outputs=outputs,
        optional_inputs=optional_edges(build.folder / MODEL),
        encoder_inputs=encoder_inputs,
        encoder_outputs=encoder_outputs,
        start_token_id=config.get("decoder_start_token_id"),
        fused_attention=_has_fused_attention(build.folder / MODEL),
        parity={},
        versions={**{package: version(package) for package in PACKAGES}, "onnxruntime": ort.__version__},
        spare_slots=spare_slots,
    )


def _max_positions(checkpoint: Checkpoint) -> int | None:
    """Return the number of tokens that a base has positions for; None if they are not limited."""
    most = max_positions(load_config(checkpoint.base))
    return None if most >= UNLIMITED else most


def graph_edges(graph: Path) -> tuple[list[Edge], list[Edge]]:
    """Return the inputs and outputs of an ONNX file, as a session over it would; the CPU need not run it."""
    found = onnx.load(graph, load_external_data=False).graph
    defaults = {one.name for one in found.initializer}
    required = [value for value in found.input if value.name not in defaults]
    return [_edge(value) for value in required], [_edge(value) for value in found.output]


def optional_edges(graph: Path) -> list[Edge]:
    """Return the inputs of an ONNX file that a run may leave out."""
    found = onnx.load(graph, load_external_data=False).graph
    defaults = {one.name for one in found.initializer}
    return [_edge(value) for value in found.input if value.name in defaults]


def _edge(value: onnx.ValueInfoProto) -> Edge:
    tensor = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return Edge(name=value.name, dtype=EDGE_TYPES[tensor.elem_type], shape=shape)


def _has_fused_attention(graph: Path) -> bool:
    nodes = onnx.load(graph, load_external_data=False).graph.node
    return any(node.op_type.endswith("Attention") for node in nodes)
