"""Export of generative models: decoder-only (causal) and encoder-decoder (sequence to sequence)."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.parity.examples import files_exist
from adamix_export.precision.calibration import CalibrationText
from adamix_export.tasks.reference_logits import CAUSAL, Logits, ModelLayout
from adamix_export.tracing import decoder, encoder_decoder
from adamix_export.tracing.stacks import Stacks
from adamix_train.data.encoding import Encoding
from adamix_train.data.splits import read_all, task_of
from adamix_train.evaluation.generate import make_prompts
from adamix_train.recipe.recipe import Recipe
from serve.bundle.manifest import ENCODER

CANARIES = ("name[Blue Spice], food[Italian]", "Where can I change the address on my invoice?", "no")
"""Inputs stored in every bundle, as token ids, with the tokens that PyTorch generates."""
CANARY_TOKENS = 8
"""Number of tokens generated for each canary."""


def canaries(layout: ModelLayout, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the canary prompts, the tokens that PyTorch generates greedily, and the logits of these tokens."""
    template = task_of(Recipe(**checkpoint.card.recipe)).prompt
    prompts = [
        layout.shorten(checkpoint.tokenizer(template.replace("{input}", text))["input_ids"], checkpoint.card.max_length)
        for text in CANARIES
    ]
    tokens: list[list[int]] = [[] for _ in prompts]
    logits: Logits = []
    for _ in range(CANARY_TOKENS):
        logits = layout.logits(checkpoint, prompts, [[*row, 0] for row in tokens])
        tokens = [[*row, int(found[-1].argmax())] for row, found in zip(tokens, logits, strict=True)]
    return {
        "canary_ids": prompts,
        "canary_tokens": tokens,
        "canary_logits": [found[range(len(row)), row].tolist() for row, found in zip(tokens, logits, strict=True)],
        "prompt": template,
        "eos_token_ids": _end_tokens(checkpoint),
    }


def write_decoder(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stacks: Stacks | None, file: Path
) -> None:
    """Write the graph of a decoder-only model."""
    decoder.write_graph(model, stacks, file)


def write_encoder_decoder(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stacks: Stacks | None, file: Path
) -> None:
    """Write the decoder's graph to `file` and the encoder's beside it."""
    encoder_decoder.write_graphs(model, stacks, file.with_name(ENCODER), file)


def calibration_texts(checkpoint: Checkpoint, file: Path | None, count: int) -> list[CalibrationText]:
    """Return the token ids of about `count` prompts with their targets, spread evenly over a file.

    Without `file` they are from the run's training data; the list is empty if that is not available.
    """
    task = task_of(Recipe(**checkpoint.card.recipe))
    files = str(file) if file else checkpoint.card.recipe["train_file"]
    if not files or not (file or files_exist(files)):
        return []
    encoding = Encoding(tokenizer=checkpoint.tokenizer, max_length=checkpoint.card.max_length, prompt=task.prompt)
    prompts = make_prompts(read_all(files, task), encoding, encoder_decoder=False)
    chosen = prompts[:: -(-len(prompts) // count)]
    return [CalibrationText(ids=[*one.ids, *CAUSAL.target(checkpoint.tokenizer, one.references[0])]) for one in chosen]


def _end_tokens(checkpoint: Checkpoint) -> list[int]:
    """Return the tokenizer's and the generation configuration's end-of-sequence tokens."""
    configured = checkpoint.reference.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return sorted({checkpoint.tokenizer.eos_token_id, *ends} - {None})
