"""A bank's row without a head of its own keeps that of the base."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.heads import add_missing_heads
from tests.fixtures.peft_checkpoints import make_classifier, peft_classifier


def test_a_module_that_another_adapter_replaces_is_the_bases_own(tiny_base: Path, tmp_path: Path) -> None:
    base = make_classifier(tmp_path / "base", tiny_base)
    fields = {"plain": {}, "pooled": {"modules_to_save": ["pooler"]}}
    opened = [open_checkpoint(str(peft_classifier(tmp_path / name, base, **more))) for name, more in fields.items()]
    adapters = {one.name: one.adapter for one in opened}
    pooler = "bert.pooler.dense.head.weight"
    assert [pooler in tensors for tensors in adapters.values()] == [False, True]
    trained = adapters["pooled"][pooler]
    add_missing_heads(opened, adapters)
    stored = load_file(base / "model.safetensors")["bert.pooler.dense.weight"]
    assert torch.equal(adapters["plain"][pooler], stored)
    assert torch.equal(adapters["pooled"][pooler], trained)
    assert not torch.equal(trained, stored)
