"""Results of sequences that have ended."""

from serve.generated_text import FinishReason, GenerationResult, TokenLogprob
from serve.generation.generator import Generator
from serve.generation.result import result_of, stripped
from tests.fixtures.hand_computed_decoder import END
from tests.fixtures.sequences import new_scheduler, new_sequence, run


def test_logprobs_are_those_of_the_text_with_the_texts_of_their_tokens(generator: Generator) -> None:
    sequence = new_sequence(generator, [4, 5], "north", 6, logprobs=2, logit_bias={END: -100})
    run(new_scheduler(generator), sequence)
    result = result_of(sequence, generator.token_texts)
    assert [one.token for one in result.logprobs] == result.tokens == sequence.tokens
    assert [one.logprob for one in result.logprobs] == [one.chosen for one in sequence.logprobs]
    ends = [*(one.offset for one in result.logprobs[1:]), len(result.text)]
    for one, end in zip(result.logprobs, ends, strict=True):
        assert result.text[one.offset : end].strip() in ("", one.text.strip())
        assert len(one.top) == 2


def test_tokens_that_a_stop_string_cut_off_have_no_logprobs(generator: Generator) -> None:
    whole = new_sequence(generator, [4, 5], "north", 6, logit_bias={END: -100})
    run(new_scheduler(generator), whole)
    stop = whole.text.split()[2]
    cut = new_sequence(generator, [4, 5], "north", 6, logprobs=0, logit_bias={END: -100}, stop=[stop])
    run(new_scheduler(generator), cut)
    result = result_of(cut, generator.token_texts)
    assert result.finish_reason is FinishReason.STOP and stop not in result.text
    assert all(one.offset < len(result.text) for one in result.logprobs)
    assert len(result.logprobs) < len(result.tokens)


def test_the_end_of_sequence_token_has_no_logprobs(generator: Generator) -> None:
    sequence = new_sequence(generator, [4, 5], "north", 6, logprobs=0, logit_bias={END: 100})
    run(new_scheduler(generator), sequence)
    assert len(sequence.logprobs) == 1
    result = result_of(sequence, generator.token_texts)
    assert (result.text, result.tokens, list(result.logprobs)) == ("", [], [])


def test_a_stripped_result_has_its_offsets_moved() -> None:
    logprobs = [TokenLogprob(token, text, at, 0.0) for token, text, at in ((7, " ", 0), (8, " a", 1), (9, "b ", 3))]
    whole = GenerationResult("one", "0", "  ab ", [7, 8, 9], FinishReason.STOP, 2, logprobs)
    found = stripped(whole)
    assert (found.text, [one.offset for one in found.logprobs]) == ("ab", [0, 0, 1])
    assert stripped(found) == found
