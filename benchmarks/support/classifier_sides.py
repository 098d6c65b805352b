"""The sides of `benchmarks.classify`: one merged classifier, read from one folder, run by several systems."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.exporters import OnnxConfig, OnnxExporter

from adamix_cli.progress_bar import progress_bar
from adamix_export.errors import first_line
from adamix_export.passes.rewrite_file import rewrite_file
from adamix_export.precision.calibration import CalibrationText, collect_channel_ranges
from adamix_export.precision.table import PRECISIONS
from adamix_export.tracing.encoder import write_graph
from benchmarks.peers import PEERS
from benchmarks.support.errors import PeerError
from benchmarks.support.machine import usable_cores
from benchmarks.support.report import Absent
from benchmarks.support.sample import TOKEN_INPUTS, merged_classifier
from serve.runtime.providers import CPU, ProviderChoice
from serve.runtime.session import open_session

OURS, TORCH, COMPILED, OPTIMUM, TRANSFORMERS = "adamix", "pytorch", "torch.compile", "optimum", "transformers"
INT8 = "-int8"
"""Suffix of the names of sides in int8."""

TEXTS, LENGTH, SEED = 16, 16, 1
"""Texts that our int8 is calibrated on, their tokens, and the seed that draws them."""
QUANTISED = {"DefaultTensorType": onnx.TensorProto.FLOAT}
"""Options that the quantiser needs for O2's graph, whose operators it has no shapes for."""

Feed = dict[str, NDArray[np.int64]]
"""Token inputs (batch, sequence) by name."""
Logits = NDArray[np.float32]
"""(batch, labels)"""
Call = Callable[[], Logits]
Side = Callable[[Feed], Call]
"""Prepares the inputs, which is not timed, and returns what is timed."""


def open_sides(scratch: Path) -> tuple[dict[str, Side], list[Absent]]:
    """Return the sides by name, and the peers that are not there; `scratch` keeps the files that they run."""
    sides: dict[str, Side] = {}
    absent: list[Absent] = []
    with progress_bar(total=1 + len(MAKERS), desc="preparing: merging", bar_format="{desc} {bar}| {elapsed}") as stages:
        merged_classifier().save_pretrained(scratch / "merged")
        for name, make in MAKERS.items():
            stages.update()
            stages.set_description(f"preparing: {name}")
            try:
                sides[name] = make(scratch / "merged", scratch)
            except PeerError as error:
                absent.append(Absent(peer=name, reason=str(error)))
        stages.update()
    return sides, absent


def adamix_side(model: Path, scratch: Path, *, precision: str) -> Side:
    """Return the graph that adamix-export writes, as our engine opens it."""
    file = scratch / f"adamix-{precision}.onnx"
    loaded = _load(model)
    write_graph(loaded, TOKEN_INPUTS, None, file)
    setting = PRECISIONS[precision]["classification"]
    if setting.rewrite is not None:
        # All products are quantized: the logits of weights that were drawn have no spread to hold a loss against.
        ranges = collect_channel_ranges(file, random_texts(loaded.config.vocab_size), None)
        rewrite_file(file, partial(setting.rewrite, ranges))
    return _onnx_side(open_session(file, ProviderChoice(CPU, "as asked"), threads=usable_cores()))


def random_texts(vocabulary: int) -> list[CalibrationText]:
    """Return texts of random tokens to calibrate on, as those that are timed are."""
    ids = np.random.default_rng(SEED).integers(vocabulary, size=(TEXTS, LENGTH))
    return [CalibrationText(ids=row) for row in ids.tolist()]


def pytorch_side(model: Path, scratch: Path, *, compiled: bool) -> Side:
    """Return PyTorch in inference mode with its fused attention, on as many threads as the others."""
    torch.set_num_threads(usable_cores())
    loaded: Callable[..., Any] = _load(model, attn_implementation="sdpa")
    if compiled:
        loaded = torch.compile(loaded, dynamic=False)

    def prepare(feed: Feed) -> Call:
        tensors = {name: torch.from_numpy(ids) for name, ids in feed.items()}

        @torch.inference_mode()
        def call() -> Logits:
            logits: Logits = loaded(**tensors).logits.numpy()
            return logits

        return call

    return prepare


def optimum_side(model: Path, scratch: Path) -> Side:
    """Return optimum's export at its optimisation level O2, in our ONNX Runtime."""
    return _onnx_side(plain_session(_optimum(model)))


def optimum_int8_side(model: Path, scratch: Path) -> Side:
    """Return the same in int8, dynamic and per channel, by the function of ONNX Runtime's that optimum calls."""
    file = scratch / "optimum-int8.onnx"
    quantize_dynamic(_optimum(model), file, per_channel=True, weight_type=QuantType.QInt8, extra_options=QUANTISED)
    return _onnx_side(plain_session(file))


def transformers_side(model: Path, scratch: Path) -> Side:
    """Return the export of transformers' own exporter, fused for ONNX Runtime on the CPU."""
    feed = {name: torch.ones((2, 8), dtype=torch.int64) for name in TOKEN_INPUTS}
    config = OnnxConfig(dynamic=True, ort_fusions="cpu")
    try:
        OnnxExporter().export(_load(model), feed, config).save_pretrained(scratch / "transformers")
        (file,) = (scratch / "transformers").rglob("*.onnx")
        return _onnx_side(plain_session(file))
    except Exception as error:
        raise PeerError(f"its export failed: {first_line(error)}") from error


MAKERS: dict[str, Callable[[Path, Path], Side]] = {
    OURS: partial(adamix_side, precision="fp32"),
    TORCH: partial(pytorch_side, compiled=False),
    COMPILED: partial(pytorch_side, compiled=True),
    OPTIMUM: optimum_side,
    TRANSFORMERS: transformers_side,
    OURS + INT8: partial(adamix_side, precision="int8"),
    OPTIMUM + INT8: optimum_int8_side,
}
"""Side → what makes it from the merged model's folder and a folder for files of its own."""


@cache
def _optimum(model: Path) -> Path:
    return PEERS[OPTIMUM].convert("optimum_export.py", model) / "model_optimized.onnx"


def plain_session(file: Path) -> ort.InferenceSession:
    """Return a session as ONNX Runtime opens it by default, but for the number of threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    return ort.InferenceSession(file, options, providers=[CPU])


def _onnx_side(session: ort.InferenceSession) -> Side:
    def prepare(feed: Feed) -> Call:
        def call() -> Logits:
            logits: Logits = session.run(["logits"], feed)[0]
            return logits

        return call

    return prepare


def _load(folder: Path, **kwargs: Any) -> PreTrainedModel:
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32", **kwargs)
    return model.requires_grad_(False).eval()
