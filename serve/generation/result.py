"""Results of sequences that have ended."""

from collections.abc import Sequence
from dataclasses import replace

from serve.errors import InputError
from serve.generated_text import FinishReason, GenerationResult, TokenCandidate, TokenLogprob
from serve.generation.detokenizer import IncrementalDetokenizer, TokenTexts
from serve.generation.request import SequenceState
from serve.generation.sampling.logits import Logprobs
from serve.sampling_params import SamplingParams


def result_of(sequence: SequenceState, token_texts: TokenTexts, index: int = 0) -> GenerationResult:
    """Return the result of a sequence that has ended, its text as the tokens give it."""
    card, tokens = sequence.adapter.card, sequence.input_tokens
    return GenerationResult(
        adapter=card.name,
        sha256=card.sha256,
        text=sequence.text,
        tokens=sequence.tokens,
        finish_reason=sequence.finish_reason or FinishReason.CANCELLED,
        prompt_tokens=len(tokens),
        logprobs=logprobs_of(sequence, token_texts, 0, _kept_tokens(sequence)),
        end_logprob=_end_logprob(sequence, token_texts),
        index=index,
        prompt_text=sequence.prompt_text,
        prompt_ids=tokens,
        prompt_logprobs=_prompt_logprobs(sequence, token_texts),
    )


def results_of(sequence: SequenceState, token_texts: TokenTexts, place: int = 0) -> list[GenerationResult]:
    """Return the results of a sequence that has ended: one, or the `n` best of a beam search.

    Args:
        sequence: The sequence.
        token_texts: Texts of single tokens.
        place: Number of the sequence among those of its request.
    """
    search, count = sequence.beam_search, sequence.sampling.n if sequence.sampling.num_beams > 1 else 1
    best = result_of(sequence, token_texts, place * count)
    if search is None or not search.done:
        return [best]
    results = [best]
    for hypothesis in search.finished[1:count]:
        tokens = [token for token in hypothesis.tokens if token not in sequence.ends]
        detokenizer = IncrementalDetokenizer(token_texts.decoders[sequence.sampling.skip_special_tokens]())
        text = "".join([*map(detokenizer.push, tokens), detokenizer.end()])
        reason = FinishReason.LENGTH if tokens == hypothesis.tokens else FinishReason.STOP
        index = best.index + len(results)
        results.append(replace(best, text=text, tokens=tokens, finish_reason=reason, index=index))
    return results


def stripped(result: GenerationResult) -> GenerationResult:
    """Return a result without the white space around its text."""
    text = result.text.strip()
    removed = len(result.text) - len(result.text.lstrip())
    logprobs = [replace(one, offset=min(max(0, one.offset - removed), len(text))) for one in result.logprobs]
    return replace(result, text=text, logprobs=logprobs)


def check_streamable(sampling: SamplingParams) -> SamplingParams:
    """Return the parameters of a stream of one text.

    Raises:
        InputError: They ask for more than one text.
    """
    if sampling.n > 1:
        raise InputError(f"n is {sampling.n}: a stream has one text", "n")
    return sampling


def logprobs_of(sequence: SequenceState, token_texts: TokenTexts, first: int, end: int) -> list[TokenLogprob]:
    """Return the log probabilities of generated tokens from `first` to `end`; none if the request did not ask."""
    if not sequence.logprobs:
        return []
    tokens, offsets = sequence.tokens[first:end], sequence.detokenizer.offsets[first:end]
    return [
        _entry(token, offset, logprobs, token_texts)
        for token, offset, logprobs in zip(tokens, offsets, sequence.logprobs[first:end], strict=True)
    ]


def _end_logprob(sequence: SequenceState, token_texts: TokenTexts) -> TokenLogprob | None:
    if sequence.end_token is None or not sequence.logprobs:
        return None
    return _entry(sequence.end_token, len(sequence.text), sequence.logprobs[-1], token_texts)


def _kept_tokens(sequence: SequenceState) -> int:
    """Return the number of tokens of the text; those that a stop string cut off are left out."""
    detokenizer = sequence.detokenizer
    offsets, length = detokenizer.offsets, len(detokenizer.text)
    return sum(offset < length for offset in offsets) if detokenizer.stopped else len(offsets)


def _prompt_logprobs(sequence: SequenceState, token_texts: TokenTexts) -> Sequence[TokenLogprob | None]:
    """Return the log probabilities of the prompt's tokens; the first has none."""
    if sequence.sampling.prompt_logprobs is None:
        return ()
    detokenizer = IncrementalDetokenizer(token_texts.decoders[False]())
    for token in sequence.whole_prompt:
        detokenizer.push(token)
    known = zip(sequence.forced, detokenizer.offsets[1:], sequence.prompt_logprobs, strict=True)
    return [None, *(_entry(token, offset, logprobs, token_texts) for token, offset, logprobs in known)]


def _entry(token: int, offset: int, logprobs: Logprobs, token_texts: TokenTexts) -> TokenLogprob:
    top = [TokenCandidate(one, *token_texts.both(one), value) for one, value in logprobs.top]
    text, content = token_texts.both(token)
    return TokenLogprob(token, text, offset, logprobs.chosen, top, content, logprobs.rank)
