"""The table of PEFT's methods: `python -m docs.peft_methods` exports one adapter of each, writes docs/peft-methods.md.

Each adapter has random weights on query and value of MiniLM's first layers, or on what its method adapts.
"""

import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from adamix_cli.progress_bar import progress_bar
from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.checkpoint.facts import Facts
from adamix_export.errors import BankError, ExportError
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from adamix_export.tasks.classification import logits
from adamix_train.artifacts.atomic_write import write_text
from adamix_train.errors import first_line
from demos.models import sample_model

PAGE = Path(__file__).with_name("peft-methods.md")
METHODS: dict[str, dict[str, Any]] = {
    "LORA": {},
    "ADALORA": {"total_step": 10},
    "IA3": {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]},
    "ADAMSS": {},
    "BEFT": {},
    "BOFT": {},
    "C3A": {"block_size": 8},
    "DEFT": {},
    "DELORA": {},
    "FOURIERFT": {"n_frequency": 50},
    "FROD": {},
    "GLORA": {},
    "GRALORA": {"r": 8},
    "HIRA": {},
    "HRA": {},
    "LILY": {},
    "LN_TUNING": {"target_modules": ["LayerNorm"]},
    "LOHA": {},
    "LOKR": {},
    "MISS": {"r": 8},
    "OFT": {},
    "OSF": {},
    "PEANUT": {},
    "PSOFT": {"r": 8},
    "PVERA": {},
    "RANDLORA": {},
    "ROAD": {"group_size": 8},
    "SHIRA": {"r": 4},
    "SUPERTUNING": {},
    "TINYLORA": {},
    "TRAINABLE_TOKENS": {"target_modules": ["word_embeddings"], "token_indices": [101, 102]},
    "UNILORA": {},
    "VBLORA": {"vector_length": 8, "num_vectors": 16},
    "VERA": {"r": 8},
    "WAVEFT": {"n_frequency": 50},
    "CARTRIDGE": {},
    "MULTITASK_PROMPT_TUNING": {"num_tasks": 2},
    "P_TUNING": {},
    "PREFIX_TUNING": {},
    "PROMPT_TUNING": {},
    "POLY": {},
    "SHADOW": {},
}
"""Method → the fields of its configuration that are not its defaults."""
LABELS = ["negative", "neutral", "positive"]
LAYERS = 2
NOISE = 0.02
"""Standard deviation of what is added to each trained weight."""
ENERGY = 0.99
TEXTS = [("The parcel came a day early.",), ("no",), ("a long queue and a short answer, " * 9,), ("Fine!",)]
UNBOUNDED = Options(tolerance=float("inf"), max_metric_drop=1.0, approximate=True)
HEADER = f"""\
# PEFT's methods, merged and in a bank

Written by `python -m docs.peft_methods`, which exports an adapter of every method of PEFT {peft.__version__} on the
first two layers of MiniLM (fp32, CPU) and compares ONNX Runtime with PEFT's own model. The adapters have random
weights, on query and value where a method has a choice. X-LoRA, CPT and adaption prompts, which need other adapters or
a decoder, are refused as well.

- **merged** and **bank**: the largest difference of a logit from PEFT's, or the reason why the method is refused.
- **--rank-energy {ENERGY}**: the same bank with the closest LoRA in place of the method. The difference is a share of
  the largest change that the adapter makes to a logit. Random changes of full rank are the worst case: they need the
  most ranks. What a trained adapter may lose is bounded at its export by `--max-metric-drop`.

| method | merged | bank | --rank-energy {ENERGY} |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of a method in each shape."""

    method: str
    merged: str
    bank: str
    approximated: str = ""

    def __str__(self) -> str:
        return f"| {self.method} | {self.merged} | {self.bank} | {self.approximated} |"


def save_adapter(folder: Path, base: Path, method: str, *, noise: float = NOISE, **settings: Any) -> Path:
    """Write an adapter of a method with random weights on a classifier of the labels `LABELS`."""
    config = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(method)]
    known = {field.name for field in fields(config)}
    defaults = {"target_modules": ["query", "value"], "num_virtual_tokens": 2, "task_type": "SEQ_CLS"}
    given = {name: value for name, value in defaults.items() if name in known} | METHODS[method] | settings
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(LABELS))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(model, config(**given), autocast_adapter_dtype=False)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(noise * torch.randn_like(parameter))
        adapted.save_pretrained(str(folder))
    return folder


def examine(method: str, base: Path, scratch: Path) -> Row:
    """Export an adapter of a method in each shape."""
    folder = save_adapter(scratch / method, base, method)
    opened = partial(open_checkpoint, str(folder))
    facts = Facts(labels=tuple(LABELS), max_length=64)
    try:
        merged = f"{_difference('merged', opened(facts=facts), scratch):.0e}"
    except ExportError as error:
        return Row(method=method, merged=_refusal(error, folder), bank="as merged")
    try:
        return Row(method=method, merged=merged, bank=f"{_difference('bank', opened(facts=facts), scratch):.0e}")
    except BankError as error:
        refusal = _refusal(error, folder)
    close = opened(facts=replace(facts, rank_energy=ENERGY))
    try:
        return Row(method=method, merged=merged, bank=refusal, approximated=_approximated(close, scratch))
    except BankError as error:
        return Row(method=method, merged=merged, bank=refusal, approximated=_refusal(error, folder))


def _refusal(error: Exception, folder: Path) -> str:
    """Return the reason of an error, without what it advises."""
    return f"refused: {first_line(error).partition(': ')[0].replace(str(folder), 'it')}"


def _difference(shape: str, checkpoint: Checkpoint, scratch: Path) -> float:
    """Return the largest difference of a logit between the export and PEFT."""
    with tempfile.TemporaryDirectory(dir=scratch) as out:
        reports = EXPORTS[shape]([checkpoint], Path(out) / "bundle", UNBOUNDED, lambda stage: None)
    return next(iter(reports.values())).max_difference


def _approximated(checkpoint: Checkpoint, scratch: Path) -> str:
    """Return the loss of a bank's approximation as a share of the adapter's effect, and its largest rank."""
    ranks = [tensor.shape[0] for name, tensor in checkpoint.adapter.items() if name.endswith("down.weight")]
    if not ranks:
        return "exact: it changes no matrix"
    with torch.inference_mode():
        plain = checkpoint.base_model()
        plain.load_state_dict(_heads(checkpoint), strict=False)
    lost = _difference("bank", checkpoint, scratch)
    effect = abs(logits(checkpoint, TEXTS) - _plain_logits(plain, checkpoint)).max()
    return f"{lost / effect:.1%} of its effect, ranks up to {max(ranks)}"


def _heads(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the weights of the adapter's own output layer, by the base's names."""
    return {name.replace(".head.", "."): tensor for name, tensor in checkpoint.adapter.items() if ".head." in name}


def _plain_logits(model: Any, checkpoint: Checkpoint) -> Any:
    """Return the logits of the base under the adapter's head (texts, labels)."""
    inputs = checkpoint.tokenizer(
        [text for (text,) in TEXTS], padding=True, truncation=True, max_length=64, return_tensors="pt"
    )
    with torch.inference_mode():
        return model(**inputs).logits.numpy()


def make_base(folder: Path) -> Path:
    """Write a classifier of MiniLM's first layers, with a random head, which methods without one need."""
    minilm = sample_model("minilm")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=len(LABELS), num_hidden_layers=LAYERS)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(folder)
    return folder


def main(names: Sequence[str] = tuple(METHODS)) -> None:
    """Examine the methods and write the page."""
    with tempfile.TemporaryDirectory() as scratch:
        base = make_base(Path(scratch) / "base")
        rows = [examine(name, base, Path(scratch)) for name in progress_bar(names, file=sys.stderr)]
    write_text(PAGE, HEADER + "\n".join(map(str, rows)) + "\n")


if __name__ == "__main__":
    main()
