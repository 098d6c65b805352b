"""Bundles in fp16 as the export writes them, and many adapters for their banks.

The comparison that ends an export is left out: every part compares its sides on the device before it times them.
"""

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.pipeline.bundle_parts import BundleBuild, make_manifest, write_adapters, write_model
from adamix_export.pipeline.options import Options
from adamix_export.pipeline.packing import write_packed_graph
from adamix_export.pipeline.rewriting import rewrite_graphs
from adamix_export.precision.table import precision_setting
from adamix_export.tasks.table import EXPORT_TASKS
from adamix_export.tracing.merged import merge
from benchmarks.gpu.checkpoints import make_checkpoint
from benchmarks.gpu.models import BUNDLES, LORA, MODELS
from benchmarks.gpu.setting import Setting
from serve.bundle.adapter import Adapter
from serve.bundle.manifest import max_canary_tolerance
from serve.bundle.reader import Bundle, open_bundle
from serve.bundle.writer import atomic_folder, write_manifest

FP16 = "fp16"
ADAPTER = "adapter"
"""Name of the adapter that every bundle is exported with."""
SPREAD = 0.05
"""Standard deviation of the factors that make an adapter from another."""


def make_bundle(name: str, setting: Setting) -> None:
    """Write a bundle, and with a merged LoRA also the folder that PyTorch reads."""
    plan = BUNDLES[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_checkpoint(plan, MODELS[plan.model], setting.base(plan.model), Path(scratch) / ADAPTER)
        checkpoint = open_checkpoint(str(folder))
        _write(plan.shape, checkpoint, setting.bundle(name))
        if plan.shape == "merged" and plan.adapter == LORA:
            _write_merged(checkpoint, setting.merged(plan.model))


def open_prepared(name: str, setting: Setting) -> Bundle:
    """Open a bundle of the setting; raise a BenchmarkError if it was not made."""
    return open_bundle(setting.require(setting.bundle(name)))


def with_many(bundle: Bundle, count: int) -> Bundle:
    """Return a bank with `count` adapters after its own, each with weights of its own."""
    (first,) = bundle.adapters.values()
    return replace(
        bundle, adapters=dict(bundle.adapters) | {f"a{index}": _like(first, index) for index in range(count)}
    )


def _like(adapter: Adapter, seed: int) -> Adapter:
    random = np.random.default_rng(seed)
    tensors = {
        name: (tensor * random.normal(1, SPREAD, tensor.shape)).astype(np.float32)
        for name, tensor in adapter.tensors.items()
    }
    sha256 = hashlib.sha256(b"".join(map(np.ndarray.tobytes, tensors.values()))).hexdigest()
    return Adapter(replace(adapter.card, name=f"a{seed}", sha256=sha256), tensors)


def _write(shape: str, checkpoint: Checkpoint, out: Path) -> None:
    objective = checkpoint.objective_name
    with atomic_folder(out, force=True) as folder:
        build = BundleBuild(task=EXPORT_TASKS[objective], shape=shape, checkpoints=[checkpoint], folder=folder)
        write_adapters(build)
        write_model(build)
        rewrite_graphs(build, precision_setting(FP16, objective), Options(precision=FP16), lambda stage: None)
        if shape == "merged" and build.task.can_be_packed:
            write_packed_graph(folder)
        manifest = make_manifest(build, precision=FP16, spare_slots=0)
        write_manifest(folder, replace(manifest, canary_tolerance=max_canary_tolerance(FP16)))


def _write_merged(checkpoint: Checkpoint, out: Path) -> None:
    with atomic_folder(out, force=True, marks=("config.json",)) as folder:
        merge(checkpoint.base_model(), checkpoint.adapter).half().save_pretrained(folder)
