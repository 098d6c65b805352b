"""The formats by name; a new one is a module in this folder and an entry of the table."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from adamix_export.errors import ExportError

if TYPE_CHECKING:
    from serve.bundle.adapter import Adapter
    from serve.bundle.reader import Bundle

Write = Callable[["Bundle", "list[Adapter]", Path], str]
"""Takes a bundle, the selected adapters and a new folder; returns how to use the result."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The format of another tool."""

    description: str
    """Supported bundles and the result, in one line."""
    module: str
    """Module in this folder, imported when it is used. Its `MARK` is the name or pattern of a file by which a folder of
    this format is recognized, so that --force replaces nothing else.
    """
    has_graph: bool = True
    """Has a graph, which is checked on the CPU."""
    writer: str
    """Function of type `Write` in the module."""

    def load(self) -> ModuleType:
        """Import the module."""
        return import_module(f"{__package__}.{self.module}")


TARGETS: dict[str, Target] = {
    "peft": Target(
        description="one LoRA of any bundle as a checkpoint of PEFT",
        module="peft_lora",
        has_graph=False,
        writer="write_peft",
    ),
    "gguf-lora": Target(
        description="one LoRA of a decoder as an adapter of llama.cpp",
        module="gguf_lora",
        has_graph=False,
        writer="write_gguf",
    ),
    "adapters": Target(
        description="one bottleneck or LoRA of any bundle, with its head, for AdapterHub's adapters library",
        module="adapterhub",
        has_graph=False,
        writer="write_adapterhub",
    ),
    "onnx-adapter": Target(
        description="a bank as a graph and a file for each adapter, for ONNX Runtime's LoraAdapter",
        module="onnx_adapter",
        writer="write_onnx_adapters",
    ),
    "genai": Target(
        description="a decoder for onnxruntime-genai; a bank with an .onnx_adapter file for each adapter",
        module="genai",
        writer="write_genai",
    ),
    "triton": Target(
        description="a classifier as a model of a Triton repository, where OUT is the model's folder",
        module="triton",
        writer="write_triton",
    ),
}


def convert(folder: Path, out: Path, target: str, *, adapter: str | None = None, force: bool = False) -> str:
    """Write the bundle in `folder`, or one adapter of it, to `out` as `target`; return how to use the result."""
    from adamix_export.pipeline.disk_space import explain_write_errors
    from adamix_export.precision.table import EMULATIONS
    from serve.bundle.reader import open_bundle
    from serve.bundle.writer import atomic_folder

    bundle = open_bundle(folder)
    if adapter is not None and adapter not in bundle.adapters:
        raise ExportError(f"{folder} has no adapter {adapter}; it has {', '.join(bundle.adapters)}")
    if TARGETS[target].has_graph and bundle.manifest.precision in EMULATIONS:
        raise ExportError(
            f"{folder} is {bundle.manifest.precision}, and a converted graph is checked on the CPU, which has no "
            "kernels for it: convert an export with --precision fp16"
        )
    adapters = list(bundle.adapters.values()) if adapter is None else [bundle.adapters[adapter]]
    module = TARGETS[target].load()
    write: Write = getattr(module, TARGETS[target].writer)
    with atomic_folder(out, force=force, marks=(module.MARK,)) as partial, explain_write_errors(out):
        return write(bundle, adapters, partial)
