"""The formats by name; a new one is a file beside this one and a line in the table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adamix_export.converters import genai, onnx_adapter, peft_lora, triton
from adamix_export.errors import ExportError
from adamix_export.pipeline.disk_space import writing
from serve.bundle.adapter import Adapter
from serve.bundle.reader import Bundle, open_bundle
from serve.bundle.writer import atomic_folder


@dataclass(frozen=True, kw_only=True)
class Target:
    """A format of another tool."""

    what: str
    """What it makes of which bundles, in a line."""
    mark: str
    """The name, or pattern, of a file by which a folder of it is known, so that --force replaces nothing else."""
    write: Callable[[Bundle, list[Adapter], Path], str]
    """Takes the bundle, those of its adapters that were asked for and a new folder; returns what to do with it."""


TARGETS: dict[str, Target] = {
    "peft": Target(
        what="a LoRA of any bundle as a checkpoint of PEFT", mark=peft_lora.MARK, write=peft_lora.write_peft
    ),
    "onnx-adapter": Target(
        what="a bank as a graph and a file for each adapter, for ONNX Runtime's LoraAdapter",
        mark=onnx_adapter.MARK,
        write=onnx_adapter.write_onnx_adapters,
    ),
    "genai": Target(
        what="a decoder for onnxruntime-genai, a bank with an .onnx_adapter file for each adapter",
        mark=genai.MARK,
        write=genai.write_genai,
    ),
    "triton": Target(
        what="a classifier as a model of a Triton repository, where OUT is the model's folder",
        mark=triton.MARK,
        write=triton.write_triton,
    ),
}


def convert(folder: Path, out: Path, target: str, *, adapter: str | None = None, force: bool = False) -> str:
    """Write the bundle in `folder`, or one adapter of it, as `target` into `out`; return what to do with it."""
    bundle = open_bundle(folder)
    if adapter is not None and adapter not in bundle.adapters:
        raise ExportError(f"{folder} has no adapter {adapter}; it has {', '.join(bundle.adapters)}")
    adapters = list(bundle.adapters.values()) if adapter is None else [bundle.adapters[adapter]]
    with atomic_folder(out, force=force, marks=(TARGETS[target].mark,)) as partial, writing(out):
        return TARGETS[target].write(bundle, adapters, partial)
