"""A declared rank is compared with the stored tensors before any memory is taken for it."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.facts import Facts
from adamix_export.checkpoint.importers.ranks import RANKS, require_ranks
from adamix_train.errors import CheckpointError
from tests.fixtures.peft_checkpoints import LABELS, peft_classifier

METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "LORA": (peft.LoraConfig, {"rank_pattern": {"value": 6}}),
    "ADALORA": (peft.AdaLoraConfig, {"total_step": 10}),
    "LOHA": (peft.LoHaConfig, {"rank_pattern": {"value": 6}}),
    "VERA": (peft.VeraConfig, {}),
    "HRA": (peft.HRAConfig, {}),
    "VBLORA": (peft.VBLoRAConfig, {"vector_length": 8, "num_vectors": 20}),
    "RANDLORA": (peft.RandLoraConfig, {}),
    "MISS": (peft.MissConfig, {}),
    "DELORA": (peft.DeloraConfig, {}),
    "GRALORA": (peft.GraloraConfig, {}),
}
HUGE = 10**9


@pytest.mark.parametrize("method", RANKS)
def test_a_rank_above_that_of_the_tensors_is_refused(method: str, tiny_base: Path, tmp_path: Path) -> None:
    kind, fields = METHODS[method]
    field = RANKS[method][0]
    folder = peft_classifier(tmp_path / "tone", tiny_base, method=kind, **{field: 4, **fields})
    config = peft.PeftConfig.from_pretrained(folder)
    stored = load_file(folder / "adapter_model.safetensors")
    require_ranks(config, stored, folder)
    setattr(config, field, HUGE)
    with pytest.raises(CheckpointError, match=rf"declares the rank {HUGE} \({field}, .* has 4: "):
        require_ranks(config, stored, folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"r": HUGE}, f"declares the rank {HUGE}"),
        ({"rank_pattern": {"value": HUGE}}, rf"declares the rank {HUGE} .*value\.lora_A\.weight has 4"),
        ({"r": 5}, r"declares the rank 5 .*lora_A\.weight has 4"),
        ({"rank_pattern": {"query": "8"}}, "declares the rank '8'"),
    ],
)
def test_nothing_is_allocated_for_a_rank_that_is_not_stored(
    fields: dict[str, object], message: str, tiny_base: Path, tmp_path: Path
) -> None:
    folder = peft_classifier(tmp_path / "tone", tiny_base, r=4)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    checkpoint = open_checkpoint(str(folder), facts=Facts(labels=LABELS))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.merged()
    with pytest.raises(CheckpointError, match=message):
        _ = checkpoint.adapter


def test_ranks_that_adalora_pruned_are_counted_with_those_that_are_left() -> None:
    pattern = {"query.lora_E": [True, False, True, False]}
    config = peft.AdaLoraConfig(init_r=4, total_step=10, rank_pattern=pattern)
    stored = {"base_model.model.query.lora_A": torch.zeros(2, 32)}
    require_ranks(config, stored, Path("tone"))
    config.init_r = HUGE
    with pytest.raises(CheckpointError, match=rf"declares the rank {HUGE}"):
        require_ranks(config, stored, Path("tone"))
