"""A reader of bundles after docs/bundle-format.md alone: nothing of the project is imported here."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Arrays = dict[str, np.ndarray]


def read_sealed(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text("utf-8"))
    seal = content.pop("seal")
    plain = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(", ", ": "))
    assert hashlib.sha256(plain.encode("ascii")).hexdigest() == seal, file
    return content


@dataclass
class ReadBundle:
    """A bundle that was read: manifest, cards, session, stacks by input, slots by adapter."""

    manifest: dict[str, Any]
    cards: dict[str, dict[str, Any]]
    tokenizer: Tokenizer
    session: ort.InferenceSession
    encoder: ort.InferenceSession | None
    stacks: Arrays
    slots: dict[str, int]

    def run(self, ids: list[list[int]], names: list[str], types: list[list[int]], **more: np.ndarray) -> Arrays:
        width = max(map(len, ids))
        pad = self.manifest["pad_token_id"]
        fed = {
            "input_ids": [row + [pad] * (width - len(row)) for row in ids],
            "attention_mask": [[1] * len(row) + [0] * (width - len(row)) for row in ids],
            "token_type_ids": [row + [0] * (width - len(row)) for row in types],
            "adapter_ids": [self.slots.get(name, 0) for name in names],
        }
        arrays = {name: np.array(value, np.int64) for name, value in fed.items()}
        return outputs_of(self.session, self.manifest["inputs"], {**arrays, **self.stacks, **more})

    def encode(self, ids: list[int], name: str) -> tuple[list[int], Arrays]:
        """First tokens of the decoder, and what it sees of the prompt."""
        if self.encoder is None:
            return ids, {}
        mask = np.ones((1, len(ids)), np.int64)
        fed = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": mask,
            "adapter_ids": np.array([self.slots.get(name, 0)], np.int64),
        }
        states = outputs_of(self.encoder, self.manifest["encoder_inputs"], {**fed, **self.stacks})
        return [self.manifest["start_token_id"]], {"encoder_attention_mask": mask, **as_past(states)}

    def classify(self, texts: list[str], names: list[str]) -> list[dict[str, float]]:
        encoded = [
            self.tokenizer.encode(text).ids[: self.cards[name]["max_length"]]
            for text, name in zip(texts, names, strict=True)
        ]
        logits = self.run(encoded, names, [[0] * len(row) for row in encoded])["logits"]
        found = []
        for row, name in zip(logits, names, strict=True):
            labels = self.cards[name]["labels"]
            powers = np.exp(row[: len(labels)] - row[: len(labels)].max())
            found.append(dict(zip(labels, (powers / powers.sum()).tolist(), strict=True)))
        return found

    def canary_logits(self, name: str) -> list[list[float]]:
        card = self.cards[name]
        if card["canary_tokens"]:
            rows = zip(card["canary_ids"], card["canary_tokens"], strict=True)
            return [[float(logits[token]) for logits, token in self.follow(ids, tokens, name)] for ids, tokens in rows]
        types = card["canary_token_type_ids"] or [[0] * len(row) for row in card["canary_ids"]]
        logits = self.run(card["canary_ids"], [name] * len(card["canary_ids"]), types)["logits"]
        return logits[:, : len(card["labels"])].tolist()

    def follow(self, ids: list[int], tokens: list[int], name: str) -> list[tuple[np.ndarray, int]]:
        """Logits behind a prompt and each token after it, beside the token that follows."""
        found = []
        new, seen = self.encode(ids, name)
        cache, total = self.empty_cache(len(new) + len(tokens)), 0
        for token in tokens:
            total += len(new)
            mask = np.ones((1, total), np.int64)
            outputs = self.run([new], [name], [[0] * len(new)], **{**seen, **cache, "attention_mask": mask})
            found.append((outputs["logits"][0, 0], token))
            cache = as_past(outputs)
            new = [token]
        return found

    def generate(self, text: str, name: str, *, most: int) -> str:
        card = self.cards[name]
        ids = self.tokenizer.encode(card["prompt"].replace("{input}", text)).ids
        written: list[int] = []
        while len(written) < most:
            logits, _ = self.follow(ids, [*written, 0], name)[-1]
            if (best := int(logits.argmax())) in card["eos_token_ids"]:
                break
            written.append(best)
        return self.tokenizer.decode(written)

    def empty_cache(self, tokens: int) -> Arrays:
        sizes = {"batch": 1, "max_length": tokens}
        return {
            edge["name"]: np.zeros([sizes.get(size, size) for size in edge["shape"]], np.float32)
            for edge in self.manifest["inputs"]
            if edge["name"].startswith("past_key_values.") and ".encoder." not in edge["name"]
        }


def outputs_of(session: ort.InferenceSession, edges: list[dict[str, Any]], given: Arrays) -> Arrays:
    wanted = {edge["name"] for edge in edges}
    outputs = [output.name for output in session.get_outputs()]
    feeds = {name: value for name, value in given.items() if name in wanted}
    return dict(zip(outputs, session.run(outputs, feeds), strict=True))


def as_past(states: Arrays) -> Arrays:
    return {key.replace("present.", "past_key_values."): value for key, value in states.items()}


def read_bundle(folder: Path) -> ReadBundle:
    manifest = read_sealed(folder / "bundle.json")
    assert manifest["format_version"] == 1
    for name, sha256 in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256, name
    places = {name: folder / "adapters" / name for name in manifest["adapters"]}
    cards = {name: read_sealed(place / "adapter.json") for name, place in places.items()}
    weights = {name: load_file(place / "adapter.safetensors") for name, place in places.items()}
    slots = {name: slot for slot, name in enumerate(places, 1)}
    encoder = folder / "encoder.onnx"
    return ReadBundle(
        manifest,
        cards,
        Tokenizer.from_file(str(folder / "tokenizer.json")),
        ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"]),
        ort.InferenceSession(encoder, providers=["CPUExecutionProvider"]) if encoder.exists() else None,
        stacks_of(manifest["inputs"] + manifest["encoder_inputs"], weights, slots),
        slots,
    )


def stacks_of(inputs: list[dict[str, Any]], weights: dict[str, Arrays], slots: dict[str, int]) -> Arrays:
    edges = {edge["name"].removeprefix("bank."): edge for edge in inputs if edge["name"].startswith("bank.")}
    fed = {
        name: {key: value.T if value.ndim == 2 else value for key, value in tensors.items()}
        for name, tensors in weights.items()
    }
    sizes = {"slots": 1 + len(slots)}
    for name, edge in edges.items():
        for axis, size in enumerate(edge["shape"]):
            if isinstance(size, str) and axis:
                there = [tensors[name].shape[axis - 1] for tensors in fed.values() if name in tensors]
                sizes[size] = max([sizes.get(size, 1), *there])
    stacks = {}
    for name, edge in edges.items():
        stack = np.zeros([sizes.get(size, size) for size in edge["shape"]], np.float32)
        for adapter, tensors in fed.items():
            if name in tensors:
                corner = tuple(slice(size) for size in tensors[name].shape)
                stack[slots[adapter]][corner] = tensors[name]
        stacks["bank." + name] = stack
    return stacks
