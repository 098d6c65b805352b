"""Everything that a LoRA configuration of PEFT may say: exported as PEFT computes it, or refused by name."""

import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.errors import BankError, ExportError
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from tests.fixtures.peft_checkpoints import make_classifier, peft_classifier
from tests.fixtures.random_checkpoints import mixture

pytestmark = pytest.mark.slow

INPUTS = {
    "input_ids": torch.tensor([[2, 12, 5, 13, 3], [2, 7, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1] * 5, [1] * 3 + [0] * 2]),
}
LAYER_1 = r".*\.layer\.1\..*\.(query|key|dense)"
SINGLE: dict[str, dict[str, Any]] = {
    "alpha": {"r": 3, "lora_alpha": 7},
    "rank_pattern": {"r": 2, "rank_pattern": {"query": 5, "layer.1.attention.self.value": 3}},
    "alpha_pattern": {"r": 4, "alpha_pattern": {"value": 11}},
    "layers": {"layers_to_transform": [1], "layers_pattern": "layer"},
    "regex": {"target_modules": LAYER_1},
    "all_linear": {"target_modules": "all-linear"},
    "excluded": {"target_modules": "all-linear", "exclude_modules": ["key", "pooler.dense"]},
    "dropout": {"lora_dropout": 0.5},
    "lora_bias": {"lora_bias": True},
    "pooler_saved": {"modules_to_save": ["pooler"]},
    "layer_norm_saved": {"modules_to_save": ["embeddings.LayerNorm"]},
    "head_adapted": {"target_modules": ["query", "classifier"], "task_type": None},
    "head_adapted_dora": {"target_modules": ["query", "classifier"], "task_type": None, "use_dora": True},
    "base_head": {"target_modules": ["query"], "task_type": None},
    "base_head_and_biases": {"target_modules": ["query"], "task_type": None, "bias": "all"},
    "random_start": {"init_lora_weights": False},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal", "r": 4},
    "eva": {"init_lora_weights": "eva"},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "pissa_rslora": {"init_lora_weights": "pissa", "use_rslora": True, "target_modules": "all-linear"},
    "fan_in_fan_out": {"fan_in_fan_out": True},
    "float16": {},
    "bfloat16": {},
}
PRODUCT = {
    f"rslora{rslora:d}-dora{dora:d}-{bias}-{'all' if targets == 'all-linear' else 'some'}": {
        "r": 3,
        "lora_alpha": 5,
        "use_rslora": rslora,
        "use_dora": dora,
        "bias": bias,
        "target_modules": targets,
    }
    for rslora, dora, bias, targets in product(
        (False, True), (False, True), ("none", "lora_only", "all"), (["query", "dense"], "all-linear")
    )
}
MERGED_ALONE: dict[str, tuple[dict[str, Any], str]] = {
    "embedding": ({"target_modules": ["word_embeddings", "query"]}, "LORA's Embedding at .*word_embeddings"),
    "tokens": (
        {"trainable_token_indices": {"word_embeddings": [3, 4]}},
        "LORA's TrainableTokensWrapper at .*embeddings",
    ),
    "embedding_saved": ({"modules_to_save": ["word_embeddings"]}, "does not hold its Embedding"),
}
"""Name → fields, and the refusal in a bank."""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "pissa_niter": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4'"),
    "lora_ga": ({"init_lora_weights": "lora_ga"}, "init_lora_weights='lora_ga'"),
}
"""Name → fields, and the refusal in both shapes."""
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
FIELDS = {
    **SINGLE,
    **PRODUCT,
    **{name: fields for name, (fields, _) in {**MERGED_ALONE, **REFUSED}.items()},
}


@dataclass
class Outcomes:
    """The outcomes so far, by shape."""

    exported: dict[str, list[str]] = field(default_factory=lambda: {"merged": [], "bank": []})
    refused: dict[str, list[str]] = field(default_factory=lambda: {"merged": [], "bank": []})


@pytest.fixture(scope="module")
def outcomes() -> Iterator[Outcomes]:
    """Print the outcomes at the end."""
    found = Outcomes()
    yield found
    for shape in ("merged", "bank"):
        sys.stdout.write(
            f"\n{len(FIELDS)} configurations of LoRA, {shape}: {len(found.exported[shape])} exported, "
            f"{len(found.refused[shape])} refused by name ({', '.join(found.refused[shape])})\n"
        )


@pytest.fixture(scope="module")
def folders(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All configurations, and a mixture, on one base that has a head of its own."""
    root = tmp_path_factory.mktemp("peft")
    base = make_classifier(root / "base", tiny_base)
    return {"mixture": mixture(root / "mixture", base, kind="lora", labels=("yes", "no"))} | {
        name: peft_classifier(root / name, base, dtype=DTYPES.get(name, torch.float32), **fields)
        for name, fields in FIELDS.items()
    }


def opened(folder: Path) -> Checkpoint:
    return open_checkpoint(str(folder))


def difference(checkpoint: Checkpoint) -> float:
    """Return the largest difference between PEFT's logits and those of the merged model."""
    with torch.inference_mode():
        expected = checkpoint.reference(**INPUTS).logits
        checkpoint.forget_reference()
        found = checkpoint.merged()(**INPUTS).logits
        assert (expected - checkpoint.base_model()(**INPUTS).logits).abs().max() > 1e-2, "the base alone would pass"
    return float((found - expected).abs().max())


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in REFUSED])
def test_a_merged_model_gives_pefts_logits(name: str, folders: dict[str, Path], outcomes: Outcomes) -> None:
    assert difference(opened(folders[name])) < 1e-5
    outcomes.exported["merged"].append(name)


def test_one_bank_of_all_of_them_gives_pefts_logits(
    folders: dict[str, Path], tmp_path: Path, outcomes: Outcomes
) -> None:
    """Ranks, targets and kinds differ from row to row, and one row is a mixture's."""
    names = [*SINGLE, *PRODUCT]
    checkpoints = [*(opened(folders[name]) for name in names), open_checkpoint(str(folders["mixture"]))]
    reports = EXPORTS["bank"](checkpoints, tmp_path / "bank", Options(), lambda stage: None)
    assert reports.keys() == {*names, "mixture"}
    assert all(report.max_difference < 1e-4 and report.equal_labels == 1 for report in reports.values())
    outcomes.exported["bank"] += names
    gc.collect()


@pytest.mark.parametrize("name", MERGED_ALONE)
def test_a_bank_refuses_the_rest_by_name(name: str, folders: dict[str, Path], outcomes: Outcomes) -> None:
    with pytest.raises(BankError, match=MERGED_ALONE[name][1] + r".*export it with --shape merged$"):
        _ = opened(folders[name]).adapter
    outcomes.refused["bank"].append(name)


@pytest.mark.parametrize("name", REFUSED)
def test_a_start_that_the_checkpoint_does_not_hold_is_refused(
    name: str, folders: dict[str, Path], outcomes: Outcomes
) -> None:
    with pytest.raises(ExportError, match=REFUSED[name][1] + r".*path_initial_model_for_weight_conversion"):
        opened(folders[name])
    for refused in outcomes.refused.values():
        refused.append(name)
