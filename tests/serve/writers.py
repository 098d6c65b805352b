"""A decoder small enough to compute by hand: one layer of attention over a cache, a LoRA branch, a head."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from serve.adapter import WEIGHTS, AdapterCard, write_card
from serve.bundle import Manifest, seal_bundle
from serve.seal import file_sha256
from tests.serve.conftest import BASE, WORDS, edges_of, tokenizer_sha256, write_tokenizer

WIDTH, RANK, CONTEXT, END = 16, 2, 48, 2
NAMES = ["north", "south", "west"]
SITE = "bank.layer.lora"


@dataclass(frozen=True)
class Writer:
    """Its weights, and what it writes: causal attention, x + attended, LoRA, head."""

    weights: dict[str, NDArray[np.float32]]
    adapters: dict[str, dict[str, NDArray[np.float32]]]

    def logits(self, ids: list[int], adapter: str | None) -> NDArray[np.float32]:
        """After the last of some tokens: (vocabulary,)."""
        x = self.weights["embeddings"][ids]
        query, key, value = (x @ self.weights[name] for name in ("query", "key", "value"))
        scores = query[-1] @ key.T / np.sqrt(WIDTH)
        shares = np.exp(scores - scores.max())
        hidden = x[-1] + shares / shares.sum() @ value
        if adapter is not None:
            tensors = self.adapters[adapter]
            hidden = hidden + tensors["layer.lora.up.weight"] @ (tensors["layer.lora.down.weight"] @ hidden)
        found: NDArray[np.float32] = hidden @ self.weights["head"]
        return found

    def greedy(self, prompt: list[int], adapter: str | None, count: int) -> list[int]:
        """The likeliest tokens after a prompt, without the one that ends them."""
        tokens: list[int] = []
        while len(tokens) < count:
            token = int(self.logits([*prompt, *tokens], adapter).argmax())
            if token == END:
                break
            tokens.append(token)
        return tokens


def make_writer(seed: int = 4) -> Writer:
    """Return weights at random."""
    random = np.random.default_rng(seed)

    def tensor(*shape: int) -> NDArray[np.float32]:
        return random.normal(size=shape).astype(np.float32)

    size = len(WORDS)
    weights = {"embeddings": tensor(size, WIDTH), "head": tensor(WIDTH, size)}
    weights |= {name: tensor(WIDTH, WIDTH) / 2 for name in ("query", "key", "value")}
    shapes = {"layer.lora.down.weight": (RANK, WIDTH), "layer.lora.up.weight": (WIDTH, RANK)}
    return Writer(weights, {name: {key: tensor(*shape) / 3 for key, shape in shapes.items()} for name in NAMES})


def graph_of(writer: Writer) -> onnx.ModelProto:
    """Return the bank's graph."""
    buffer = ["batch", 1, "max_length", WIDTH]
    inputs = {
        "input_ids": (TensorProto.INT64, ["batch", "sequence"]),
        "attention_mask": (TensorProto.INT64, ["batch", "total"]),
        "adapter_ids": (TensorProto.INT64, ["batch"]),
        "past_key_values.0.key": (TensorProto.FLOAT, buffer),
        "past_key_values.0.value": (TensorProto.FLOAT, buffer),
        f"{SITE}.down.weight": (TensorProto.FLOAT, ["slots", WIDTH, "lora_r"]),
        f"{SITE}.up.weight": (TensorProto.FLOAT, ["slots", "lora_r", WIDTH]),
    }
    outputs = {
        "logits": ["batch", 1, len(WORDS)],
        "present.0.key": buffer,
        "present.0.value": buffer,
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["embeddings", "input_ids"], ["x"]),
        *(node("MatMul", ["x", name], [f"x.{name}"]) for name in ("query", "key", "value")),
        node("ReduceSum", ["attention_mask", "one_axis"], ["lengths"], keepdims=0),
        node("Sub", ["lengths", "one"], ["last"]),
        node("Cast", ["last"], ["last32"], to=TensorProto.INT32),
        node("Shape", ["attention_mask"], ["total"], start=1, end=2),
        node("Cast", ["total"], ["total32"], to=TensorProto.INT32),
        node(
            "GroupQueryAttention",
            ["x.query", "x.key", "x.value", "past_key_values.0.key", "past_key_values.0.value", "last32", "total32"],
            ["attended", "present.0.key", "present.0.value"],
            domain="com.microsoft",
            num_heads=1,
            kv_num_heads=1,
        ),
        node("Add", ["x", "attended"], ["hidden"]),
        node("Shape", ["input_ids"], ["columns"], start=1, end=2),
        node("Sub", ["columns", "one"], ["last_column"]),
        node("Min", ["last", "last_column"], ["ends"]),
        node("Unsqueeze", ["ends", "one_axis"], ["ends_2d"]),
        node("GatherND", ["hidden", "ends_2d"], ["ending"], batch_dims=1),
        node("Unsqueeze", ["ending", "one_axis"], ["state"]),
        node("Gather", [f"{SITE}.down.weight", "adapter_ids"], ["down"]),
        node("Gather", [f"{SITE}.up.weight", "adapter_ids"], ["up"]),
        node("MatMul", ["state", "down"], ["low"]),
        node("MatMul", ["low", "up"], ["delta"]),
        node("Add", ["state", "delta"], ["adapted"]),
        node("MatMul", ["adapted", "head"], ["logits"]),
    ]
    constants = {**writer.weights, "one_axis": np.array([1], np.int64), "one": np.array([1], np.int64)}
    graph = helper.make_graph(
        nodes,
        "writer",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def write_writer(folder: Path, writer: Writer, **config: int) -> Path:
    """Write the bundle of a bank that writes, with `config` beside what its configuration says."""
    folder.mkdir(parents=True)
    model = graph_of(writer)
    onnx.save(model, folder / "model.onnx")
    write_tokenizer(folder / "tokenizer.json")
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": CONTEXT, "eos_token_id": END, **config}))
    for name in NAMES:
        _write_adapter(folder / "adapters" / name, writer, name)
    manifest = Manifest(
        task="text-generation",
        shape="bank",
        precision="fp32",
        base={"name": "tiny", "sha256": BASE, "model_type": "tiny"},
        pad_token_id=0,
        adapters=NAMES,
        inputs=edges_of(model.graph.input),
        outputs=edges_of(model.graph.output),
        parity={},
        versions={},
    )
    seal_bundle(folder, manifest)
    return folder


def _write_adapter(folder: Path, writer: Writer, name: str) -> None:
    folder.mkdir(parents=True)
    save_file(writer.adapters[name], folder / WEIGHTS)
    canaries = [[4, 5], [6, 9, 8, 4]]
    tokens = [[int(writer.logits(ids, name).argmax())] for ids in canaries]
    logits = [[float(writer.logits(ids, name).max())] for ids in canaries]
    card = AdapterCard(
        name=name,
        sha256=file_sha256(folder / WEIGHTS),
        base_sha256=BASE,
        tokenizer_sha256=tokenizer_sha256(),
        kind="lora",
        r=RANK,
        num_modules=4,
        labels=[],
        max_length=32,
        metric="loss",
        metrics={},
        canary_ids=canaries,
        canary_logits=logits,
        canary_tokens=tokens,
        eos_token_ids=[END],
    )
    write_card(folder, card)
