"""The peers: PyTorch in fp16 with scaled-dot-product attention, eager and compiled, in the same process as ours."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from adamix_export.errors import first_line
from benchmarks.gpu.setting import Setting
from benchmarks.support.errors import DisagreementError, PeerError

EAGER, COMPILED = "pytorch", "torch.compile"
MODE = "reduce-overhead"
"""Mode of torch.compile that captures CUDA graphs, which suits small batches; large ones gain or lose nothing by it."""
TOLERANCE = 0.05
"""Largest accepted difference of a logit between two sides in fp16, as a share of the largest logit."""

Array = NDArray[Any]
Run = Callable[[], Array]
"""Copies token ids to the device, runs, and returns logits on the host."""


def load_classifier(folder: Path, setting: Setting) -> PreTrainedModel:
    """Return a classifier in fp16 on the device."""
    return _load(AutoModelForSequenceClassification, folder, setting)


def load_decoder(folder: Path, setting: Setting) -> PreTrainedModel:
    """Return a decoder in fp16 on the device."""
    return _load(AutoModelForCausalLM, folder, setting)


def compiled(model: PreTrainedModel) -> Callable[..., Any]:
    """Return the model compiled for each shape that it meets."""
    fast: Callable[..., Any] = torch.compile(model, mode=MODE, dynamic=False)
    return fast


def classify(model: Callable[..., Any], ids: Sequence[Sequence[int]], setting: Setting) -> Run:
    """Return a call over one batch, padded on the right with 1 and masked there."""
    feed = {"input_ids": padded(ids), "attention_mask": mask(ids)}
    tensors = {name: torch.from_numpy(array) for name, array in feed.items()}

    @torch.inference_mode()
    def call() -> Array:
        on_device = {name: tensor.to(setting.device, non_blocking=True) for name, tensor in tensors.items()}
        found: Array = model(**on_device).logits.float().cpu().numpy()
        return found

    return call


def attempt(run: Run, name: str) -> Run:
    """Return a call that has run once; raise a PeerError if that fails."""
    try:
        run()
    except Exception as error:  # the compiler's errors share no base class
        raise PeerError(f"{name} failed: {first_line(error)}") from error
    return run


def padded(ids: Sequence[Sequence[int]], pad: int = 1) -> NDArray[np.int64]:
    """Return token ids (rows, longest)."""
    longest = max(map(len, ids))
    return np.array([[*row, *[pad] * (longest - len(row))] for row in ids], np.int64)


def mask(ids: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return the attention mask (rows, longest)."""
    longest = max(map(len, ids))
    return np.array([[1] * len(row) + [0] * (longest - len(row)) for row in ids], np.int64)


def difference(found: Array, expected: Array) -> float:
    """Return the largest difference of two arrays of logits, as a share of the largest logit."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def require_agreement(found: Array, expected: Array, what: str) -> float:
    """Return the difference of two arrays of logits.

    Raises:
        DisagreementError: It is above the tolerance, or a logit is not finite: times do not compare.
    """
    share = difference(found, expected)
    if not share <= TOLERANCE:
        raise DisagreementError(f"{what}: logits differ by {share:.3f} of the largest, more than {TOLERANCE}")
    return share


@dataclass(frozen=True)
class Generate:
    """`generate` of transformers, with a static cache that it compiles on a GPU or with the cache of its own choice."""

    model: PreTrainedModel
    setting: Setting
    static: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `generate` that choose the cache."""
        return {"cache_implementation": "static"} if self.static else {}

    def prepare(self, rows: Sequence[Sequence[int]], new: int) -> None:
        """Write once, which compiles; raise a PeerError if that fails."""
        try:
            self.write(rows, new)
        except Exception as error:  # the compiler's errors share no base class
            raise PeerError(f"generate failed: {first_line(error)}") from error

    @torch.inference_mode()
    def write(self, rows: Sequence[Sequence[int]], new: int) -> dict[str, Any]:
        """Read prompts of one length, then decode `new` tokens after the first.

        Returns:
            The seconds `decode` of the latter, and the `tokens` (rows, 1 + new).
        """
        ids = torch.tensor(rows, device=self.setting.device)
        times: list[float] = []

        def clock(found: Any, scores: Any, **_: Any) -> Any:
            if self.setting.provider == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter())
            return torch.zeros(len(found), dtype=torch.bool, device=found.device)

        found = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new + 1,
            min_new_tokens=new + 1,
            do_sample=False,
            stopping_criteria=transformers.StoppingCriteriaList([clock]),
            **self.options,
        )
        return {"decode": times[-1] - times[0], "tokens": found[:, ids.shape[1] :].tolist()}

    @torch.inference_mode()
    def last_logits(self, rows: Sequence[Sequence[int]]) -> Array:
        """Return the logits after each prompt, (rows, vocabulary)."""
        ids = torch.tensor(rows, device=self.setting.device)
        found: Array = self.model(input_ids=ids, logits_to_keep=1).logits[:, -1].float().cpu().numpy()
        return found


def _load(model_class: Any, folder: Path, setting: Setting) -> PreTrainedModel:
    model = model_class.from_pretrained(setting.require(folder), dtype=torch.float16, attn_implementation="sdpa")
    found: PreTrainedModel = model.requires_grad_(False).eval().to(setting.device)
    return found
