"""Bundles of a small run on the sample base, and many adapters like its own, for the benchmarks of the engine."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.parity.bounds import Check
from adamix_export.passes.rewrite_file import rewrite_file
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from adamix_export.precision.calibration import CalibrationText
from adamix_export.precision.table import PRECISIONS
from adamix_export.tracing.merged import merge
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from benchmarks.support.data import data_file
from demos.models import sample_model
from demos.tasks import DATA
from serve.adapters.bank import Bank
from serve.bundle.adapter import WEIGHTS, Adapter, read_adapter, write_card
from serve.bundle.checked_json import file_sha256
from serve.bundle.manifest import MODEL, max_canary_tolerance
from serve.bundle.reader import Bundle, open_bundle
from serve.bundle.writer import write_manifest
from serve.classification.classifier import Classifier

BASE = "minilm"
INT8 = "int8"
KINDS: dict[str, dict[str, Any]] = {"lora": {"kind": "lora", "r": 8}, "houlsby": {"kind": "houlsby", "r": 48}}
"""Adapters that are trained: fields of their recipes, by kind."""
RUN: dict[str, Any] = {
    "num_modules": 4,
    "epochs": 4,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "max_length": 128,
    "report_to": "none",
}


def trained(kind: str, out: Path, **settings: Any) -> Checkpoint:
    """Train a mixture on the demo's tone of voice, a moment long, and open it for export.

    Args:
        kind: Kind of adapter, one of `KINDS`.
        out: Folder of the run.
        settings: Fields of the recipe in place of those here.
    """
    files = {key: str(DATA / "tone" / f"{name}.csv") for key, name in (("train_file", "train"), ("test_file", "test"))}
    train(Recipe(**{"base": str(sample_model(BASE)), "out": str(out), **files, **RUN, **KINDS[kind], **settings}))
    return open_checkpoint(str(out))


def exported(sources: Sequence[Checkpoint], shape: str, out: Path) -> Bundle:
    """Return a bundle that adamix-export wrote, after its comparison with PyTorch on a few rows."""
    EXPORTS[shape](sources, out, Options(check=Check(limit=32)), lambda stage: None)
    return open_bundle(out)


def in_int8(bundle: Bundle, out: Path) -> Bundle:
    """Return the same bundle in int8, calibrated on its canary texts; `benchmarks.precision` says what that costs."""
    setting = PRECISIONS[INT8]["classification"]
    assert setting.rewrite is not None and setting.calibrate is not None
    shutil.copytree(bundle.folder, out)
    adapters = list(bundle.adapters.values())
    texts = [CalibrationText(ids=ids, slot=slot) for slot, one in enumerate(adapters, 1) for ids in one.card.canary_ids]
    bank = Bank(bundle.manifest.inputs, adapters) if bundle.manifest.shape == "bank" else None
    rewrite_file(out / MODEL, partial(setting.rewrite, setting.calibrate(out / MODEL, texts, bank)))
    tolerance = max_canary_tolerance(INT8)
    write_manifest(out, replace(bundle.manifest, precision=INT8, canary_tolerance=tolerance))
    return open_bundle(out)


def merged_model(source: Checkpoint, out: Path) -> Path:
    """Write the base with the adapter merged, as a folder that every peer reads."""
    merge(source.base_model(), source.adapter).save_pretrained(out)
    source.tokenizer.save_pretrained(out)
    _tell_older_versions(out / "config.json")
    return out


def _tell_older_versions(file: Path) -> None:
    """Name the rotary base where transformers 4, which optimum runs on, looks for it; it takes 10,000 otherwise."""
    config = json.loads(file.read_text("utf-8"))
    if theta := config.get("rope_parameters", {}).get("rope_theta"):
        file.write_text(json.dumps({**config, "rope_theta": theta}, indent=2), "utf-8")


def like(bundle: Bundle, count: int, folder: Path) -> list[Path]:
    """Write `count` adapters like the bundle's first, each with weights of its own and canary rows that hold."""
    (first, *_) = bundle.adapters.values()
    random = np.random.default_rng(0)
    made = []
    for index in range(count):
        out = folder / f"a{index}"
        out.mkdir(parents=True)
        tensors = {
            name: (tensor * random.normal(1, 0.05, tensor.shape)).astype(np.float32)
            for name, tensor in first.tensors.items()
        }
        save_file(tensors, out / WEIGHTS)
        write_card(out, replace(first.card, name=out.name, sha256=file_sha256(out / WEIGHTS)))
        made.append(out)
    return _with_canaries(bundle, made)


def _with_canaries(bundle: Bundle, folders: Sequence[Path]) -> list[Path]:
    """Give adapters that never were in PyTorch what the engine finds for their canary rows."""
    adapters = [read_adapter(folder) for folder in folders]
    name = next(iter(bundle.adapters))
    classifier = Classifier(replace(bundle, adapters={name: bundle.adapters[name]}), provider="cpu", slots=8)
    for folder, adapter in zip(folders, adapters, strict=True):
        (logits,) = classifier.canary_logits([adapter])
        write_card(folder, replace(adapter.card, canary_logits=logits.tolist()))
    return list(folders)


def adapter_bytes(adapter: Adapter) -> int:
    """Return the size of an adapter's weights in memory."""
    return sum(tensor.nbytes for tensor in adapter.tensors.values())


def sentences(count: int) -> list[str]:
    """Return the first `count` of SST-2's test sentences, its validation sentences after them."""
    files = [data_file(f"sst2/{name}") for name in ("test.tsv", "dev.tsv")]
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    return [line.rpartition("\t")[0] for line in lines][:count]
