"""Sequences from prompts and sampling parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from serve.errors import InputError
from serve.generation.detokenizer import IncrementalDetokenizer, TokenTexts
from serve.generation.prompts import Prompt
from serve.generation.request import SequenceState
from serve.generation.sampling.structured_output import Constraint, Grammar
from serve.generation.sampling.token_mask import TokenMask
from serve.requests import GenerationRequest
from serve.sampling_params import TOKEN_LISTS, SamplingParams

Grammars = Mapping[tuple[int, ...], Grammar]
"""Grammars of one schema by the end-of-sequence tokens of the adapters."""


class SequenceFactory:
    """Makes the sequences of requests, which have not begun."""

    def __init__(self, token_texts: TokenTexts, *, vocabulary: int, start_token_id: int | None) -> None:
        """Make sequences of one bundle.

        Args:
            token_texts: Texts of the bundle's tokens.
            vocabulary: Number of logits.
            start_token_id: First token of the decoder behind an encoder; None without an encoder.
        """
        self.tokenizer, self.decoders = token_texts.tokenizer, token_texts.decoders
        self.vocabulary, self.start_token_id = vocabulary, start_token_id

    def make(self, prompts: Sequence[Prompt], sampling: SamplingParams, grammars: Grammars) -> list[SequenceState]:
        """Return `sampling.n` sequences for each prompt, or one that searches; sequence i is drawn with `seed + i`.

        Raises:
            InputError: The parameters do not fit this model.
        """
        check_tokens(sampling, self.vocabulary)
        if sampling.prompt_logprobs is not None and self.start_token_id is not None:
            raise InputError("the prompt of an encoder has no log probabilities: leave them out", "prompt_logprobs")
        count = sampling.n if sampling.num_beams == 1 else 1
        seeds = [None if sampling.seed is None else sampling.seed + index for index in range(count)]
        words = self._bad_words(sampling)
        return [
            self._sequence(prompt, replace(sampling, seed=seed), grammars, words)
            for prompt in prompts
            for seed in seeds
        ]

    def of_request(
        self, request: GenerationRequest, prompts: Sequence[Prompt], grammars: Grammars, *, arrival_time: float
    ) -> list[SequenceState]:
        """Return the sequences of a request that came at `arrival_time`, as `make` does."""
        made = self.make(prompts, request.sampling, grammars)
        for sequence in made:
            sequence.priority, sequence.cache_salt = request.priority, request.cache_salt
            sequence.arrival_time = arrival_time
        return made

    def _sequence(
        self, prompt: Prompt, sampling: SamplingParams, grammars: Grammars, bad_words: Sequence[Sequence[int]]
    ) -> SequenceState:
        ids, eos, is_encoded = (
            prompt.input_ids,
            tuple(prompt.adapter.card.eos_token_ids),
            self.start_token_id is not None,
        )
        first = len(ids) if sampling.prompt_logprobs is None else 1
        ends = {*eos, *sampling.stop_token_ids}
        return SequenceState(
            [self.start_token_id] if self.start_token_id is not None else ids[:first],
            prompt.adapter,
            sampling,
            IncrementalDetokenizer(
                self.decoders[sampling.skip_special_tokens](),
                sampling.stop,
                keep_stop=sampling.include_stop_str_in_output,
                min_tokens=sampling.min_new_tokens,
            ),
            source=ids if is_encoded else (),
            forced=() if is_encoded else ids[first:],
            prompt_text=prompt.text,
            default_new_tokens=prompt.default_new_tokens,
            grammar=grammars[eos].start() if sampling.is_constrained else None,
            mask=TokenMask(sampling, ends=ends, bad_words=bad_words, vocabulary=self.vocabulary)
            if sampling.masks_tokens
            else None,
        )

    def _bad_words(self, sampling: SamplingParams) -> list[list[int]]:
        """Return the tokens of each word that is not generated, at the beginning of a word and inside one."""
        return [
            self.tokenizer.encode(start + word.lstrip(), add_special_tokens=False).ids
            for word in sampling.bad_words
            for start in ("", " ")
        ]


def constraints_of(prompts: Sequence[Prompt], sampling: SamplingParams) -> list[tuple[Constraint, tuple[int, ...]]]:
    """Return the schema or grammar of a request, if it has one, with the end-of-sequence tokens of each adapter."""
    if sampling.constraint is None:
        return []
    ends = dict.fromkeys(tuple(prompt.adapter.card.eos_token_ids) for prompt in prompts)
    return [(sampling.constraint, eos) for eos in ends]


def check_tokens(sampling: SamplingParams, vocabulary: int) -> None:
    """Raise an InputError if a request names a token that is not in the vocabulary."""
    for name in (*TOKEN_LISTS, "logit_bias"):
        if unknown := [token for token in getattr(sampling, name) if not 0 <= token < vocabulary]:
            raise InputError(f"{name} names token {unknown[0]}: there are 0 to {vocabulary - 1}", name)
