"""What other tools, and a repository of the Hub, expect beside the graph: the tokenizer's settings, large files."""

import json
from collections.abc import Sequence
from pathlib import Path

from adamix_export.checkpoint.checkpoint import Source
from serve.bundle.manifest import ATTRIBUTES

TOKENIZER_CONFIG = "tokenizer_config.json"
LARGE = ("*.onnx", "*.onnx.data", "*.onnx_adapter", "*.safetensors")
"""Files that a git repository of the Hub keeps in its large file storage."""


def write_attributes(folder: Path) -> None:
    """Write the `.gitattributes` of a repository of the Hub."""
    (folder / ATTRIBUTES).write_text("".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE))


def write_tokenizer_config(sources: Sequence[Source], file: Path) -> None:
    """Write what transformers, of any version, needs to know of the tokenizer besides `tokenizer.json`."""
    tokenizer = sources[0].tokenizer
    content = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": min(tokenizer.model_max_length, max(source.card.max_length for source in sources)),
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
