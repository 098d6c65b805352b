"""Texts of the data-to-text task before export and over HTTP: their quality, and tokens a second."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from adamix_cli.progress_bar import progress_bar
from adamix_train.metrics.texts import bleu, chrf
from demos.records import RecordText, fact_coverage

AT_ONCE = 16
"""Requests in flight while tokens a second are measured."""
MAX_TOKENS = 80
"""As the recipe's `max_new_tokens`."""
INSTRUCTION = "Announce this event in one or two sentences that state every detail: {record}"
"""Request to the base, which knows no adapter's prompt: a chat through its own template."""


@dataclass(frozen=True, kw_only=True)
class TextResult:
    """Quality and speed of one model's texts for the test records."""

    model: str
    """Name of an adapter, or `base`."""
    where: str
    """`PyTorch` before export, or `served`."""
    texts: list[str]
    bleu: float
    """0 to 100."""
    chrf: float
    """0 to 100."""
    fact_coverage: float
    """Share of the records' values that their texts state, 0 to 1."""
    tokens_per_second: float | None = None
    """All tokens by the time from the first request to the last answer; None where nothing was served."""


def before_export(task: str, run: Path, records: Sequence[RecordText]) -> TextResult:
    """Return the result of the texts that `adamix-train` generated for the test records at the end of a run."""
    lines = (run / "generated.jsonl").read_text(encoding="utf-8").splitlines()
    return _result(task, "PyTorch", [json.loads(line)["text"] for line in lines], records)


def served(address: str, model: str, records: Sequence[RecordText]) -> TextResult:
    """Generate over HTTP, many requests at once; `base` is asked in words, an adapter by the record alone."""
    ask = _ask_base if model == "base" else _complete
    with httpx.Client(base_url=address, timeout=600) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        # The first request of a model is not timed: it may fill a slot.
        ask(client, model, records[0].input)
        started = time.perf_counter()
        answers = pool.map(lambda record: ask(client, model, record.input), records)
        found = list(progress_bar(answers, total=len(records), desc=f"generating with {model}", unit="text"))
        seconds = time.perf_counter() - started
    tokens = sum(count for _, count in found)
    return _result(model, "served", [text for text, _ in found], records, tokens_per_second=tokens / seconds)


def as_rows(results: Sequence[TextResult]) -> list[dict[str, Any]]:
    """Return the table's rows, without the texts."""
    return [{"test_texts": len(one.texts), **_measures(one)} for one in results]


def format_table(results: Sequence[TextResult], records: Sequence[RecordText]) -> str:
    """Return the table, its notes, and one record with its texts."""
    head = f"   {'texts of':<8} {'where':<8} {'texts':>6} {'BLEU':>6} {'chrF':>6} {'facts':>7} {'tokens/s':>9}"
    notes = (
        "   Facts: share of the records' values (name, place, date, …) that stand in the text. The base has no\n"
        f"   adapter and is asked in words, through its chat template. Tokens/s: {AT_ONCE} requests at once."
    )
    return "\n".join(["", head, *map(_line, results), "", notes, "", _example(results, records[0])])


def _measures(result: TextResult) -> dict[str, Any]:
    return {name: value for name, value in asdict(result).items() if name != "texts"}


def _line(result: TextResult) -> str:
    speed = "" if result.tokens_per_second is None else f"{result.tokens_per_second:.0f}"
    return (
        f"   {result.model:<8} {result.where:<8} {len(result.texts):>6} {result.bleu:>6.1f} {result.chrf:>6.1f} "
        f"{result.fact_coverage:>7.1%} {speed:>9}"
    ).rstrip()


def _example(results: Sequence[TextResult], record: RecordText) -> str:
    texts = {one.model: " ".join(one.texts[0].split()) for one in results if one.where == "served"}
    width = max(map(len, ("record", *texts)))
    return "\n".join(f"   {name:<{width}}  {text}" for name, text in {"record": record.input, **texts}.items())


def _result(
    model: str, where: str, texts: list[str], records: Sequence[RecordText], *, tokens_per_second: float | None = None
) -> TextResult:
    references = [[record.target] for record in records]
    return TextResult(
        model=model,
        where=where,
        texts=texts,
        bleu=bleu(texts, references),
        chrf=chrf(texts, references),
        fact_coverage=fact_coverage(texts, [record.input for record in records]),
        tokens_per_second=tokens_per_second,
    )


def _complete(client: httpx.Client, model: str, record: str) -> tuple[str, int]:
    """Return an adapter's text for a record, and its number of tokens."""
    answer = _post(client, "/v1/completions", {"model": model, "prompt": record})
    return answer["choices"][0]["text"].strip(), answer["usage"]["completion_tokens"]


def _ask_base(client: httpx.Client, model: str, record: str) -> tuple[str, int]:
    messages = [{"role": "user", "content": INSTRUCTION.format(record=record)}]
    answer = _post(client, "/v1/chat/completions", {"model": model, "messages": messages})
    return answer["choices"][0]["message"]["content"].strip(), answer["usage"]["completion_tokens"]


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json={**body, "max_tokens": MAX_TOKENS, "temperature": 0})
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found
