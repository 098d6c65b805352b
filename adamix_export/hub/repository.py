"""Files of a Hub repository beside the graph: tokenizer configuration and Git LFS attributes."""

import json
from collections.abc import Sequence
from pathlib import Path

from adamix_export.checkpoint.checkpoint import Checkpoint
from serve.bundle.manifest import ATTRIBUTES

LARGE = ("*.onnx", "*.onnx.data", "*.onnx_adapter", "*.safetensors")
"""Files that a Hub repository keeps in Git LFS."""


def write_gitattributes(folder: Path) -> None:
    """Write the `.gitattributes` of a Hub repository."""
    (folder / ATTRIBUTES).write_text("".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE))


def write_tokenizer_config(checkpoints: Sequence[Checkpoint], file: Path) -> None:
    """Write the tokenizer configuration that transformers, in any version, reads besides `tokenizer.json`."""
    tokenizer = checkpoints[0].tokenizer
    content = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": min(
            tokenizer.model_max_length, max(checkpoint.card.max_length for checkpoint in checkpoints)
        ),
        "model_input_names": tokenizer.model_input_names,
        "truncation_side": tokenizer.truncation_side,
        "padding_side": tokenizer.padding_side,
        "add_prefix_space": getattr(tokenizer, "add_prefix_space", False),
        "clean_up_tokenization_spaces": False,
        **tokenizer.special_tokens_map,
    }
    if tokenizer.chat_template:
        content["chat_template"] = tokenizer.chat_template
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
