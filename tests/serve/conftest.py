"""A bank and a merged bundle, small enough to compute by hand, made without torch."""

import asyncio
import contextlib
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import settings
from numpy.typing import NDArray
from onnx import TensorProto, helper
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from serve.bundle.adapter import WEIGHTS, AdapterCard, write_card
from serve.bundle.checked_json import file_sha256, read_checked_json
from serve.bundle.manifest import MANIFEST, Edge, Manifest, parse_manifest
from serve.bundle.reader import Bundle, open_bundle
from serve.bundle.writer import write_manifest
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.http.app import make_app
from serve.limits import BatchLimits
from serve.request_context import current_request
from tests.fixtures.device_seam import device_paths

__all__ = ["device_paths"]

settings.register_profile("few", max_examples=10)
"""For runs in which something else is to be shown than what examples show."""

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "good", "bad", "late", "bill", "the", "is", "very"]
WIDTH = 6
BASE = "0" * 64
SITE = "encoder"
CANARY = [[1, 4, 2], [1, 5, 6, 9, 2]]
LABELS = {
    "tone": ["negative", "positive"],
    "intent": ["billing", "delivery", "other"],
    "match": ["different", "same"],
    "grade": ["score"],
}
RANKS = {"tone": 2, "intent": 4, "match": 1, "grade": 3}
TAKES = {"match": {"pairs": True}, "grade": {"regression": True}}
"""What else the cards of some adapters say."""


@pytest.fixture(autouse=True)
def no_request() -> Iterator[None]:
    """Begin outside of a request, and leave none to the tests that follow in this process."""
    token = current_request.set(None)
    yield
    current_request.reset(token)


@dataclass(frozen=True)
class Reference:
    """The tiny model by hand: the mean of embeddings, a LoRA branch, a head."""

    embeddings: NDArray[np.float32]
    adapters: dict[str, dict[str, NDArray[np.float32]]]

    def logits(self, ids: list[int], adapter: str) -> NDArray[np.float32]:
        tensors = self.adapters[adapter]
        hidden = self.embeddings[ids].mean(0)
        hidden = hidden + tensors[f"{SITE}.lora.up.weight"] @ (tensors[f"{SITE}.lora.down.weight"] @ hidden)
        return tensors["classifier.head.weight"] @ hidden + tensors["classifier.head.bias"]


@pytest.fixture(scope="session")
def reference() -> Reference:
    random = np.random.default_rng(0)

    def tensor(*shape: int) -> NDArray[np.float32]:
        return random.normal(size=shape).astype(np.float32)

    adapters = {
        name: {
            f"{SITE}.lora.down.weight": tensor(RANKS[name], WIDTH),
            f"{SITE}.lora.up.weight": tensor(WIDTH, RANKS[name]),
            "classifier.head.weight": tensor(len(labels), WIDTH),
            "classifier.head.bias": tensor(len(labels)),
        }
        for name, labels in LABELS.items()
    }
    return Reference(tensor(len(WORDS), WIDTH), adapters)


def write_adapter(folder: Path, reference: Reference, name: str, /, **changes: object) -> None:
    folder.mkdir(parents=True)
    save_file(reference.adapters[name], folder / WEIGHTS)
    fields = {
        "name": name,
        "sha256": file_sha256(folder / WEIGHTS),
        "base_sha256": BASE,
        "tokenizer_sha256": tokenizer_sha256(),
        "kind": "lora",
        "r": RANKS[name],
        "num_modules": 4,
        "labels": LABELS[name],
        "max_length": 8,
        "metric": "accuracy",
        "metrics": {"accuracy": 1.0},
        "canary_ids": CANARY,
        "canary_logits": [reference.logits(ids, name).tolist() for ids in CANARY],
    }
    write_card(folder, AdapterCard(**{**fields, **TAKES.get(name, {}), **changes}))


def card(name: str, **changes: object) -> AdapterCard:
    """The card of an adapter that is nowhere."""
    fields = {
        "name": name,
        "sha256": name,
        "base_sha256": BASE,
        "tokenizer_sha256": "0",
        "kind": "lora",
        "r": 1,
        "num_modules": 1,
        "labels": LABELS["tone"],
        "max_length": 8,
        "metric": "accuracy",
        "metrics": {},
        "canary_ids": [[1]],
        "canary_logits": [[0.0, 0.0]],
    }
    return AdapterCard(**{**fields, **changes})


def bank_graph(embeddings: NDArray[np.float32]) -> onnx.ModelProto:
    tokens, stacks = ["batch", "sequence"], "slots"
    inputs = {
        "input_ids": (TensorProto.INT64, tokens),
        "attention_mask": (TensorProto.INT64, tokens),
        "adapter_ids": (TensorProto.INT64, ["batch"]),
        f"bank.{SITE}.lora.down.weight": (TensorProto.FLOAT, [stacks, WIDTH, "lora_r"]),
        f"bank.{SITE}.lora.up.weight": (TensorProto.FLOAT, [stacks, "lora_r", WIDTH]),
        "bank.classifier.head.weight": (TensorProto.FLOAT, [stacks, WIDTH, "labels"]),
        "bank.classifier.head.bias": (TensorProto.FLOAT, [stacks, "labels"]),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["embeddings", "input_ids"], ["embedded"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "last"], ["mask_3d"]),
        node("Mul", ["embedded", "mask_3d"], ["masked"]),
        node("ReduceSum", ["masked", "middle"], ["sum"], keepdims=1),
        node("ReduceSum", ["mask_3d", "middle"], ["count"], keepdims=1),
        node("Div", ["sum", "count"], ["mean"]),
        node("Gather", [f"bank.{SITE}.lora.down.weight", "adapter_ids"], ["down"]),
        node("Gather", [f"bank.{SITE}.lora.up.weight", "adapter_ids"], ["up"]),
        node("MatMul", ["mean", "down"], ["low"]),
        node("MatMul", ["low", "up"], ["delta"]),
        node("Add", ["mean", "delta"], ["hidden"]),
        node("Gather", ["bank.classifier.head.weight", "adapter_ids"], ["head"]),
        node("Gather", ["bank.classifier.head.bias", "adapter_ids"], ["bias"]),
        node("MatMul", ["hidden", "head"], ["scores"]),
        node("Squeeze", ["scores", "middle"], ["flat"]),
        node("Add", ["flat", "bias"], ["logits"]),
    ]
    constants = {"embeddings": embeddings, "last": np.array([-1], np.int64), "middle": np.array([1], np.int64)}
    graph = helper.make_graph(
        nodes,
        "bank",
        [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in inputs.items()],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "labels"])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def edges_of(values: Iterable[onnx.ValueInfoProto]) -> list[Edge]:
    """What a manifest says of a graph's inputs or outputs."""
    types = {TensorProto.INT64: "tensor(int64)", TensorProto.FLOAT: "tensor(float)"}
    return [
        Edge(
            name=value.name,
            dtype=types[value.type.tensor_type.elem_type],
            shape=[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    ]


def write_tokenizer(file: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.save(str(file))


def tokenizer_sha256() -> str:
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder) / "tokenizer.json")
        return file_sha256(Path(folder) / "tokenizer.json")


def write_bundle(folder: Path, reference: Reference, adapters: list[str], **changes: object) -> Path:
    folder.mkdir(parents=True)
    for name in adapters:
        write_adapter(folder / "adapters" / name, reference, name)
    model = bank_graph(reference.embeddings)
    onnx.save(model, folder / "model.onnx")
    write_tokenizer(folder / "tokenizer.json")
    fields = {
        "task": "text-classification",
        "shape": "bank",
        "precision": "fp32",
        "base": {"name": "tiny", "sha256": BASE, "model_type": "tiny"},
        "pad_token_id": 0,
        "adapters": adapters,
        "inputs": edges_of(model.graph.input),
        "outputs": edges_of(model.graph.output),
        "parity": {},
        "versions": {},
    }
    write_manifest(folder, Manifest(**{**fields, **changes}))
    return folder


def relist(folder: Path) -> Path:
    """Write the manifest of a bundle anew, over the files that it has now."""
    write_manifest(folder, parse_manifest(read_checked_json(folder / MANIFEST), folder))
    return folder


@pytest.fixture
def bundle_folder(tmp_path: Path, reference: Reference) -> Path:
    return write_bundle(tmp_path / "bundle", reference, ["tone", "intent"])


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return open_bundle(bundle_folder)


@pytest.fixture
def classifier(bundle: Bundle) -> Classifier:
    return Classifier(bundle, provider="cpu", threads=1)


@contextlib.contextmanager
def live_server(classifier: Classifier, limits: BatchLimits | None = None, **options: int) -> Iterator[httpx.Client]:
    """Serve a classifier on a real socket in a thread."""
    with live_app(make_app(AsyncClassifier(classifier, limits or BatchLimits()), **options)) as client:
        yield client


@contextlib.contextmanager
def live_app(app: FastAPI) -> Iterator[httpx.Client]:
    """Serve on a real socket in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client
    server.should_exit = True
    thread.join(timeout=30)


@pytest.fixture
def mixed(tmp_path: Path, reference: Reference) -> Classifier:
    """A bank of texts, pairs and scores."""
    return Classifier(write_bundle(tmp_path / "mixed", reference, list(LABELS)), provider="cpu", threads=1)


@pytest.fixture
def client(classifier: Classifier) -> Iterator[httpx.Client]:
    with live_server(classifier) as client:
        yield client
