"""Have a model write, and judge what it wrote."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adamix_train.data.encoding import Encoding, shortened_prompt, shortened_source
from adamix_train.data.examples import Example


@dataclass(frozen=True)
class Prompt:
    """What a model writes from, and the texts that it is compared with."""

    input: str
    ids: list[int]
    references: list[str]


@dataclass(frozen=True)
class Written:
    """What a model wrote for an input, and the texts that it is compared with."""

    input: str
    text: str
    references: list[str]


def make_prompts(examples: Sequence[Example], encoding: Encoding, *, encoder_decoder: bool) -> list[Prompt]:
    """Return one prompt for every distinct input of `examples`, shortened as in training, with all its references."""
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


def write(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int,
    **settings: Any,
) -> list[Written]:
    """Write a text for every prompt, in the order of `prompts`; `settings` go to transformers' `generate`."""
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index].ids))
    texts: dict[int, str] = {}
    for start in tqdm(range(0, len(by_length), batch_size), desc="writing", unit="batch"):
        batch = by_length[start : start + batch_size]
        ids = [prompts[index].ids for index in batch]
        texts |= zip(batch, _generate(model, ids, tokenizer, settings), strict=True)
    return [Written(prompt.input, texts[index], prompt.references) for index, prompt in enumerate(prompts)]


def _generate(
    model: PreTrainedModel, prompts: list[list[int]], tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]
) -> list[str]:
    inputs = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    with torch.inference_mode():
        ids = model.generate(**inputs, do_sample=False, pad_token_id=tokenizer.pad_token_id, **settings)
    if not model.config.is_encoder_decoder:
        ids = ids[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.strip() for text in texts]  # as served: a stream cannot take back a space before a full stop
