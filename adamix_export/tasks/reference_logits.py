"""PyTorch's logits of generative models, for decoder-only models and for encoder-decoders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_train.data.encoding import shortened_prompt, shortened_source

TokenLists = Sequence[Sequence[int]]
Logits = list[NDArray[np.float32]]
"""For each sequence: (tokens, vocabulary)."""


@dataclass(frozen=True, kw_only=True)
class ModelLayout:
    """Tokenization and reference logits of one layout of generative models."""

    encoder_decoder: bool
    shorten: Callable[[list[int], int], list[int]]
    """Takes a prompt's tokens and their maximum number; returns the shortened prompt."""
    target: Callable[[PreTrainedTokenizerBase, str], list[int]]
    """Returns the tokens of a target text, without the end-of-sequence token."""
    logits: Callable[[Checkpoint, TokenLists, TokenLists], Logits]
    """Takes prompts and the tokens after them; returns PyTorch's logits before each of these, in one batch."""


def _causal_logits(checkpoint: Checkpoint, prompts: TokenLists, tokens: TokenLists) -> Logits:
    sequences = [[*prompt, *after] for prompt, after in zip(prompts, tokens, strict=True)]
    with torch.inference_mode():
        first = min(len(prompt) for prompt in prompts) - 1
        kept = torch.arange(first, max(map(len, sequences)))  # logits of a whole vocabulary are large
        logits = checkpoint.reference(**_padded(checkpoint, sequences), logits_to_keep=kept).logits
    starts = [len(prompt) - 1 - first for prompt in prompts]
    return [
        logits[index, start : start + len(after)].numpy()
        for index, (start, after) in enumerate(zip(starts, tokens, strict=True))
    ]


def _seq2seq_logits(checkpoint: Checkpoint, prompts: TokenLists, tokens: TokenLists) -> Logits:
    start = checkpoint.reference.config.decoder_start_token_id
    decoder = _padded(checkpoint, [[start, *after[:-1]] for after in tokens])
    with torch.inference_mode():
        logits = checkpoint.reference(
            **_padded(checkpoint, prompts),
            decoder_input_ids=decoder["input_ids"],
            decoder_attention_mask=decoder["attention_mask"],
        ).logits
    return [logits[index, : len(after)].numpy() for index, after in enumerate(tokens)]


def _padded(checkpoint: Checkpoint, sequences: TokenLists) -> dict[str, torch.Tensor]:
    return {**checkpoint.tokenizer.pad({"input_ids": sequences}, padding_side="right", return_tensors="pt")}


CAUSAL = ModelLayout(
    encoder_decoder=False,
    shorten=shortened_prompt,
    target=lambda tokenizer, text: tokenizer(" " + text, add_special_tokens=False)["input_ids"],
    logits=_causal_logits,
)
SEQ2SEQ = ModelLayout(
    encoder_decoder=True,
    shorten=shortened_source,
    target=lambda tokenizer, text: tokenizer(text_target=text, add_special_tokens=False)["input_ids"],
    logits=_seq2seq_logits,
)
