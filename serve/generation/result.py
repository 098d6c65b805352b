"""Results of sequences that have ended."""

from dataclasses import replace

from serve.engine import FinishReason, GenerationResult, TokenLogprob
from serve.errors import InputError
from serve.generation.detokenizer import TokenTexts
from serve.generation.request import SequenceState
from serve.sampling_params import SamplingParams


def result_of(sequence: SequenceState, token_texts: TokenTexts) -> GenerationResult:
    """Return the result of a sequence that has ended, its text as the tokens give it."""
    card = sequence.adapter.card
    return GenerationResult(
        adapter=card.name,
        sha256=card.sha256,
        text=sequence.text,
        tokens=sequence.tokens,
        finish_reason=sequence.finish_reason or FinishReason.CANCELLED,
        prompt_tokens=len(sequence.input_tokens),
        logprobs=_logprobs(sequence, token_texts),
    )


def stripped(result: GenerationResult) -> GenerationResult:
    """Return a result without the white space around its text."""
    text = result.text.strip()
    removed = len(result.text) - len(result.text.lstrip())
    logprobs = [replace(one, offset=min(max(0, one.offset - removed), len(text))) for one in result.logprobs]
    return replace(result, text=text, logprobs=logprobs)


def check_streamable(sampling: SamplingParams) -> SamplingParams:
    """Return the parameters of a stream.

    Raises:
        InputError: They ask for more than one text.
    """
    if sampling.n > 1:
        raise InputError(f"n is {sampling.n}: a stream has one text")
    return sampling


def _logprobs(sequence: SequenceState, token_texts: TokenTexts) -> list[TokenLogprob]:
    """Return the log probabilities of the tokens of the text; those that a stop string cut off are left out."""
    if not sequence.logprobs:
        return []
    detokenizer = sequence.detokenizer
    offsets, length = detokenizer.offsets, len(detokenizer.text)
    count = sum(offset < length for offset in offsets) if detokenizer.stopped else len(offsets)
    return [
        TokenLogprob(
            token=token,
            text=token_texts.text(token),
            offset=offset,
            logprob=logprobs.chosen,
            top=[(token_texts.text(one), value) for one, value in logprobs.top],
        )
        for token, offset, logprobs in zip(
            sequence.tokens[:count], offsets[:count], sequence.logprobs[:count], strict=True
        )
    ]
