"""The queue of sequences that wait for rows: what may enter it, and for how long it may wait."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence

from serve.api_keys import check_waiting, has_key, take_tokens, tenant_of
from serve.errors import DeadlineExceeded, InputError, Overloaded
from serve.generated_text import FinishReason
from serve.generation.request import SequenceState
from serve.limits import DEFAULT_MAX_NEW_TOKENS, GenerationLimits
from serve.queue_wait import QueueWait, WaitingWork
from serve.sampling_params import SamplingParams
from serve.share import Share

ROWS_TO_SPARE = 16
"""A request that needs more rows than there are leaves one in so many to others."""


class AdmissionQueue:
    """Sequences that wait for rows: by priority, then shared out between tenants and requests, then oldest first.

    Any thread may submit; the thread that steps does the rest.
    """

    def __init__(self, limits: GenerationLimits, *, vocabulary: int, context_length: int | None) -> None:
        """Create an empty queue.

        Args:
            limits: Limits of the queue, the batch and the KV cache.
            vocabulary: Number of logits.
            context_length: Longest sequence that the model was made for; None if it has no such bound.
        """
        self.limits, self.vocabulary, self.context_length = limits, vocabulary, context_length
        self.arrived: deque[SequenceState] = deque()
        """Submitted since the last step."""
        self.waiting: deque[SequenceState] = deque()
        self.wait, self.work = QueueWait(limits.max_queue_secs), WaitingWork()

    def __len__(self) -> int:
        return len(self.arrived) + len(self.waiting)

    @property
    def adapters(self) -> frozenset[str]:
        """Adapters of the sequences that wait; callable from any thread."""
        return frozenset(sequence.adapter.card.name for sequence in (*self.arrived.copy(), *self.waiting.copy()))

    def submit(self, *sequences: SequenceState) -> None:
        """Queue the sequences of a request, all or none.

        Raises:
            InputError: One can never be generated, or they never fit into the queue together.
            Overloaded: The queue is full, or they would wait too long.
        """
        for sequence in sequences:
            self._check(sequence)
        self.check_count(len(sequences))
        if len(self) + len(sequences) > self.limits.max_queued_requests:
            raise Overloaded(f"{len(self)} texts wait already: try again later")
        tenants = [tenant_of(sequence.adapter.card.name) for sequence in sequences]
        own = Counter(tenants)
        check_waiting(self.work.of(own), len(sequences), self.limits.max_queued_requests)
        self.wait.check(self.work.before(own))
        take_tokens(sum(len(one.source) + len(one.prompt) + one.max_new_tokens for one in sequences))
        share = Share(rows=sum(sequence.sampling.num_beams for sequence in sequences), has_key=has_key())
        for sequence, tenant in zip(sequences, tenants, strict=True):
            sequence.submit_time, sequence.share, sequence.tenant = time.monotonic(), share, tenant
            self.work.add(tenant, share, 1)
            self.arrived.append(sequence)

    def check_count(self, count: int) -> None:
        """Raise an InputError if so many texts never fit into the queue together."""
        if count > self.limits.max_queued_requests:
            most = self.limits.max_queued_requests
            raise InputError(f"{count} texts at once: at most {most} may wait, ask for fewer")

    def prompt_room(self, sampling: SamplingParams) -> int:
        """Return the most tokens of a prompt that leave room for the text, or for a usual one if it has no bound."""
        room = self.limits.max_tokens_in_flight // sampling.num_beams
        room = min(room, self.context_length or room)
        wanted = sampling.max_new_tokens
        return max(1, room - (min(DEFAULT_MAX_NEW_TOKENS, room // 2) if wanted is None else wanted))

    def in_turn(self, running: Sequence[SequenceState]) -> Iterator[SequenceState]:
        """Yield the sequences that wait in the order in which they should begin, beside those that are `running`.

        Those of the lowest priority number come first, then one whose tenant has the fewest rows, then one whose
        request has, then the oldest; one that is yielded counts as running. Between API keys, the key with the fewest
        rows comes before everything else, and of equals the one that has waited longest: a priority orders a key's own
        requests. A request that needs more rows than the batch has leaves the last ones to others.
        """
        tenants, requests = Counter[str](), Counter[Share]()
        waiting, most = list(self.waiting), self.limits.max_batch_requests
        for sequence in running:
            tenants[sequence.tenant] += sequence.sampling.num_beams
            requests[sequence.share] += sequence.sampling.num_beams
        while waiting:
            candidates = _of_one_key(waiting, tenants) if waiting[0].share.has_key else waiting
            sequence = min(candidates, key=lambda one: (one.priority, tenants[one.tenant], requests[one.share]))
            waiting.remove(sequence)
            share, beams = sequence.share, sequence.sampling.num_beams
            if share.rows > most and 0 < requests[share] > most - most // ROWS_TO_SPARE - beams:
                continue
            tenants[sequence.tenant] += beams
            requests[share] += beams
            yield sequence

    def begin(self, sequence: SequenceState) -> None:
        """Take a sequence out of the queue; its request is no longer late."""
        self._remove(sequence)
        sequence.begin_time = time.monotonic()
        sequence.share.begun += sequence.sampling.num_beams
        self.wait.left(1, more=bool(self.waiting))

    def update(self) -> None:
        """Take over submitted sequences; drop cancelled ones and those of requests that waited too long to begin."""
        while self.arrived:
            self._wait(self.arrived.popleft())
        for sequence in [sequence for sequence in self.waiting if sequence.cancelled]:
            self._remove(sequence)
            sequence.finish(FinishReason.CANCELLED)
        timeout, now = self.limits.timeout, time.monotonic()
        for sequence in [one for one in self.waiting if not one.share.begun and now - one.submit_time > timeout]:
            self._remove(sequence)
            sequence.fail(DeadlineExceeded(f"no row was free within {timeout:g} s: try again later"))

    def _remove(self, sequence: SequenceState) -> None:
        self.waiting.remove(sequence)
        self.work.remove(sequence.tenant, sequence.share, 1)

    def _wait(self, sequence: SequenceState) -> None:
        """Put a sequence behind those that wait with the same or a lower priority number."""
        place = len(self.waiting)
        while place and self.waiting[place - 1].priority > sequence.priority:
            place -= 1
        self.waiting.insert(place, sequence)

    def _check(self, sequence: SequenceState) -> None:
        """Set a sequence's `max_new_tokens`; raise an InputError if it can never be generated."""
        if not sequence.input_tokens:
            raise InputError("the prompt is empty", "prompts")
        beams, rows = sequence.sampling.num_beams, self.limits.max_batch_requests
        if beams > rows:
            raise InputError(f"a search with {beams} beams needs as many rows; there are {rows}", "num_beams")
        if beams > self.vocabulary:
            most = f"there are {self.vocabulary}"
            raise InputError(f"a search with {beams} beams needs as many tokens; {most}", "num_beams")
        for name in ("logprobs", "prompt_logprobs"):
            if (count := getattr(sequence.sampling, name) or 0) > self.vocabulary:
                raise InputError(f"{name} asks for {count} tokens; there are {self.vocabulary}", name)
        self._set_max_new_tokens(sequence)

    def _set_max_new_tokens(self, sequence: SequenceState) -> None:
        prompt, sampling, tokens = len(sequence.input_tokens), sequence.sampling, self.limits.max_tokens_in_flight
        room = tokens // sampling.num_beams - len(sequence.whole_prompt) - len(sequence.source)
        bound = f"{tokens} tokens may be in flight"
        if self.context_length is not None and self.context_length - prompt < room:
            room, bound = self.context_length - prompt, f"the model's context has {self.context_length}"
        most = sampling.max_new_tokens
        sequence.max_new_tokens = max(1, min(sequence.default_new_tokens, room)) if most is None else most
        if sequence.max_new_tokens > room:
            times = f", times {sampling.num_beams} beams," if sampling.num_beams > 1 else ""
            raise InputError(
                f"the prompt's {prompt} tokens and {sequence.max_new_tokens} more{times} never fit: {bound}",
                "max_new_tokens",
            )


def _of_one_key(waiting: Sequence[SequenceState], rows: Mapping[str, int]) -> list[SequenceState]:
    """Return the sequences of the key that has the fewest rows; of equals that of the longest wait."""
    since: dict[str, float] = {}
    for one in waiting:
        since[one.tenant] = min(one.submit_time, since.get(one.tenant, one.submit_time))
    tenant = min(since, key=lambda key: (rows[key], since[key]))
    return [one for one in waiting if one.tenant == tenant]
