"""Generate text for prompts."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adamix_cli.progress_bar import progress_bar
from adamix_train.data.encoding import Encoding, shortened_prompt, shortened_source
from adamix_train.data.examples import Example


@dataclass(frozen=True)
class Prompt:
    """One distinct input of a data set, and its reference texts."""

    input: str
    """Prompt text, before truncation."""
    ids: list[int]
    """Prompt tokens, truncated as in training."""
    references: list[str]


@dataclass(frozen=True)
class GeneratedText:
    """The text that a model generated for an input, and the input's reference texts."""

    input: str
    text: str
    references: list[str]


def make_prompts(examples: Sequence[Example], encoding: Encoding, *, encoder_decoder: bool) -> list[Prompt]:
    """Return one prompt for each distinct input of `examples`, truncated as in training, with all its references."""
    same: defaultdict[str, list[Example]] = defaultdict(list)
    for example in examples:
        same[encoding.source(example)].append(example)
    shorten = shortened_source if encoder_decoder else shortened_prompt
    prompts = []
    for source, found in same.items():
        ids = encoding.tokenizer(source)["input_ids"]
        encoding.fit(len(ids), found[0])
        prompts.append(Prompt(source, shorten(ids, encoding.max_length), [example.target for example in found]))
    return prompts


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int,
    **settings: Any,
) -> list[GeneratedText]:
    """Generate without sampling, in the order of `prompts`; `settings` go to transformers' `generate`.

    Batches hold prompts of similar length, padded on the left.
    """
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index].ids))
    texts: dict[int, str] = {}
    for start in progress_bar(range(0, len(by_length), batch_size), desc="generating", unit="batch"):
        batch = by_length[start : start + batch_size]
        ids = [prompts[index].ids for index in batch]
        texts |= zip(batch, _generate_batch(model, ids, tokenizer, settings), strict=True)
    return [GeneratedText(prompt.input, texts[index], prompt.references) for index, prompt in enumerate(prompts)]


def _generate_batch(
    model: PreTrainedModel, prompts: list[list[int]], tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]
) -> list[str]:
    inputs = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    with torch.inference_mode():
        ids = model.generate(**inputs, do_sample=False, pad_token_id=tokenizer.pad_token_id, **settings)
    if not model.config.is_encoder_decoder:
        ids = ids[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.strip() for text in texts]  # as served: a stream cannot take back a space before a full stop
