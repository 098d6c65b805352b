"""A collapsed LoRA and its head as a checkpoint of PEFT's LoRA."""

from collections import Counter
from pathlib import Path

import peft
from safetensors.torch import save_file

from adamix_export.checkpoint.collapse import PEFT_PREFIX
from adamix_export.converters.adapter_readme import write_readme
from adamix_export.converters.lora_sites import lora_sites, only_adapter
from serve.bundle.adapter import Adapter
from serve.bundle.reader import Bundle

WEIGHTS = "adapter_model.safetensors"
MARK = "adapter_config.json"
PARTS = ("lora_A.weight", "lora_B.weight")
"""PEFT's names of the two matrices."""
TASK_TYPES = {
    "text-classification": peft.TaskType.SEQ_CLS,
    "text-generation": peft.TaskType.CAUSAL_LM,
    "text2text-generation": peft.TaskType.SEQ_2_SEQ_LM,
}
"""PEFT's task types by the task of a bundle."""


def write_peft(bundle: Bundle, adapters: list[Adapter], folder: Path) -> str:
    """Write a PEFT checkpoint of the only adapter in `adapters`; return how to load it."""
    adapter = only_adapter(adapters, "a PEFT checkpoint")
    sites = lora_sites(adapter, "PEFT")
    tensors = {
        f"{PEFT_PREFIX}{module}.{part}": weight.contiguous()
        for module, pair in sites.pairs.items()
        for part, weight in zip(PARTS, pair, strict=True)
    }
    tensors |= {
        f"{PEFT_PREFIX}{module}.{name}": weight.contiguous()
        for module, weights in sites.heads.items()
        for name, weight in weights.items()
    }
    ranks = {module: down.shape[0] for module, (down, _) in sites.pairs.items()}
    heads = {module.partition(".")[0] for module in sites.heads}
    _config(bundle, ranks, sorted(heads)).save_pretrained(str(folder))
    save_file(tensors, folder / WEIGHTS)
    form = "LoRA modules (AdaMix), as one LoRA"
    write_readme(folder, bundle, adapter, library="peft", tag="lora", form=form)
    return f"peft.PeftModel.from_pretrained(base_model, FOLDER) loads it; the base is {bundle.manifest.base['name']}"


def _config(bundle: Bundle, ranks: dict[str, int], heads: list[str]) -> peft.LoraConfig:
    """Return PEFT's configuration. Each alpha equals its rank, as the scaling is folded into the weights."""
    ((common, _),) = Counter(ranks.values()).most_common(1)
    others = {module: rank for module, rank in ranks.items() if rank != common}
    return peft.LoraConfig(
        base_model_name_or_path=bundle.manifest.base["name"],
        task_type=TASK_TYPES[bundle.manifest.task],
        inference_mode=True,
        r=common,
        lora_alpha=common,
        rank_pattern=others,
        alpha_pattern=others,
        target_modules=sorted(ranks),
        modules_to_save=heads or None,
    )
