"""A decoder for onnxruntime-genai: its graph with a `genai_config.json` beside it.

The graph gives the logits of all tokens, as those of genai's own builder do: tools that score texts need them. A bank
is converted to ONNX Runtime's adapter format first; genai loads the adapters with `Adapters`.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from adamix_export.converters.onnx_adapter import COPIED, check_adapters, write_onnx_adapters
from adamix_export.errors import ExportError
from adamix_export.passes.all_tokens import keep_all_tokens
from adamix_export.passes.rewrite_file import derive_file
from adamix_export.tracing.sizes import attention_sizes
from serve.bundle.adapter import Adapter
from serve.bundle.graph_io import PAST, PRESENT
from serve.bundle.manifest import MODEL
from serve.bundle.reader import Bundle

MARK = "genai_config.json"
TASK = "text-generation"
KIND = "decoder"
"""genai's model type for inputs of tokens, mask and cache only; it does not depend on the family."""


def write_genai(bundle: Bundle, adapters: list[Adapter], folder: Path) -> str:
    """Write a folder for `onnxruntime_genai.Model`; return how to run it."""
    if bundle.manifest.task != TASK:
        raise ExportError(f"onnxruntime-genai runs {TASK}; {bundle.folder} is of task {bundle.manifest.task}")
    if bundle.manifest.shape == "bank":
        write_onnx_adapters(bundle, adapters, folder, keep_all_tokens)
    else:
        for name in (MODEL, *COPIED):
            if name in bundle.manifest.files:
                shutil.copy(bundle.folder / name, folder / name)
        derive_file(folder / MODEL, keep_all_tokens, folder / MODEL)
        check_adapters(bundle, adapters, folder)
    (folder / MARK).write_text(json.dumps(_config(bundle, adapters), indent=2) + "\n")
    prompts = {adapter.card.name: adapter.card.prompt for adapter in adapters}
    return f"onnxruntime_genai.Model(FOLDER) opens it; use the prompts of training: {prompts}"


def _config(bundle: Bundle, adapters: list[Adapter]) -> dict[str, Any]:
    base: Any = AutoConfig.from_pretrained(bundle.folder)
    shapes = {edge.name: edge.shape for edge in (*bundle.manifest.inputs, *bundle.manifest.outputs)}
    ends = sorted({token for adapter in adapters for token in adapter.card.eos_token_ids})
    sizes = attention_sizes(base)
    return {
        "model": {
            "type": KIND,
            "bos_token_id": ends[0] if base.bos_token_id is None else base.bos_token_id,
            "eos_token_id": ends,
            "pad_token_id": ends[0] if base.pad_token_id is None else base.pad_token_id,
            "vocab_size": shapes["logits"][-1],
            "context_length": base.max_position_embeddings,
            "decoder": {
                "filename": MODEL,
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "head_size": sizes.head_width,
                "hidden_size": sizes.hidden_size,
                "num_attention_heads": sizes.heads,
                "num_hidden_layers": sizes.layers,
                "num_key_value_heads": sizes.key_value_heads,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": f"{PAST}%d.key",
                    "past_value_names": f"{PAST}%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": f"{PRESENT}%d.key",
                    "present_value_names": f"{PRESENT}%d.value",
                },
            },
        },
        "search": {
            "do_sample": False,
            "max_length": base.max_position_embeddings,
            "num_beams": 1,
            "past_present_share_buffer": True,
        },
    }
