from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_train.evaluation.generate import Prompt
from adamix_train.tasks.table import TASKS
from benchmarks import agreement
from benchmarks.agreement import MIXES, SEARCH, Texts, findings_of, gap_of, referred, written
from serve.bundle.reader import open_bundle
from serve.generation.generator import Generator
from tests.adamix_train.conftest import WORDS
from tests.fixtures.generation_banks import NAMES, bank_of_writers
from tests.fixtures.random_checkpoints import make_tokenizer


def texts(case: str, source: Any, prompts: list[Prompt], expected: list[list[int]], found: list[list[int]]) -> Texts:
    return Texts(case, source, prompts, expected, found)


def test_texts_that_differ_are_counted() -> None:
    three = texts("greedy", None, [Prompt("", [4], [])] * 3, [[1, 2], [3], []], [[1, 2], [4], []])
    assert (three.differing, three.share) == ([1], pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("expected", "found"), [([5, 6, 7], [5, 8, 7]), ([5, 6], [5]), ([5], [5, 6])], ids=["other", "shorter", "longer"]
)
def test_a_gap_is_that_of_the_two_likeliest_logits_where_the_texts_part(expected: list[int], found: list[int]) -> None:
    seen = []

    def reference(input_ids: torch.Tensor) -> SimpleNamespace:
        seen.append(input_ids.tolist())
        logits = torch.tensor([0.0, 9.0, 1.0, 2.0]).repeat(1, input_ids.shape[1], 1)
        logits[0, -1] = torch.tensor([0.5, 3.0, 2.25, -1.0])
        return SimpleNamespace(logits=logits)

    one = texts("greedy", SimpleNamespace(reference=reference), [Prompt("", [1, 2], [])], [expected], [found])
    assert gap_of(one, 0) == 0.75
    assert seen == [[[1, 2, 5]]]


def test_a_reference_text_ends_before_its_end_of_sequence_token() -> None:
    asked = []

    def generate(input_ids: torch.Tensor, **settings: Any) -> torch.Tensor:
        asked.append((input_ids.tolist(), settings["attention_mask"].tolist(), settings["max_new_tokens"]))
        written_rows = {5: [7, 9, 8], 6: [8, 8, 8], 4: [9, 7, 7]}
        return torch.cat([input_ids, torch.tensor([written_rows[last] for last in input_ids[:, -1].tolist()])], 1)

    source: Any = SimpleNamespace(
        name="mood",
        tokenizer=make_tokenizer(typed=False),
        reference=SimpleNamespace(generate=generate),
        card=SimpleNamespace(recipe={"max_new_tokens": 3}),
    )
    prompts = [Prompt("", ids, []) for ids in ([4, 5], [6], [4])]
    assert referred(source, prompts, [9], batch=2) == [[7], [8, 8, 8], []]
    assert asked == [([[4, 5], [0, 6]], [[1, 1], [0, 1]], 3), ([[4]], [[1]], 3)]


def test_shares_gaps_and_metrics_are_held_against_full_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    """One word of four is another in one of two texts: a ROUGE-L of (1 + 3/4) / 2."""

    def ids(text: str) -> list[int]:
        return [WORDS.index(word) for word in text.split()]

    source = SimpleNamespace(
        name="mood",
        card=SimpleNamespace(recipe={"base": "base", "out": "out"}),
        tokenizer=SimpleNamespace(
            decode=lambda row, skip_special_tokens: " " + " ".join(WORDS[token] for token in row)
        ),
        reference=lambda input_ids: SimpleNamespace(logits=torch.tensor([[[1.0, 4.0, 3.5]]])),
    )
    monkeypatch.setattr(agreement, "task_of", lambda recipe: replace(TASKS["e2e_nlg"], metrics=("rouge_l",)))
    wanted = ["the parcel was good", "my shop is bad"]
    prompts = [Prompt(text, [1], [text]) for text in wanted]
    expected = [ids(text) for text in wanted]
    other = [expected[0], ids("my shop was bad")]
    found = findings_of(
        [
            texts("greedy", source, prompts, expected, expected),
            texts("mix", source, prompts, expected, other),
            texts(SEARCH, source, prompts, expected, other),
        ]
    )
    rows = [(row["equal"], row["widest_gap"], row["rouge_l_pytorch"], row["rouge_l_engine"]) for row in found.rows]
    assert rows == [(1.0, 0.0, 1.0, 1.0), (0.5, 0.5, 1.0, 0.875), (0.5, 0.0, 1.0, 0.875)]
    assert [(goal.value, goal.met) for goal in found.goals] == [
        (1.0, True),
        (0.0, True),
        *[(0.5, False), (0.125, False)] * 2,
    ]
    assert found.worst == "0.500 of the texts equal (mix, mood)"


def test_the_command_of_a_report_names_no_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    published = []
    monkeypatch.setattr(agreement, "publish", lambda name, command, measure, *, json_to: published.append(command))
    agreement.main(["mood=runs/deep/mood-lora", "runs/tone", "--inputs", "7"])
    assert published == ["python -m benchmarks.agreement mood-lora tone --inputs 7 --searches 50"]


@pytest.mark.slow
def test_the_engine_writes_what_transformers_writes_in_every_mix(
    tmp_path_factory: pytest.TempPathFactory, writing_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bank_of_writers("llama", tmp_path_factory)
    sources = [open_checkpoint(f"{name}={folder / name}") for name in NAMES[:2]]
    monkeypatch.setattr(agreement, "e2e_file", lambda: writing_data)
    made = written(Generator(open_bundle(folder / "bank"), provider="cpu"), sources, inputs=6, searches=2)
    mixes = [(f"greedy, mix {mix + 1}", name, 6) for mix in range(MIXES) for name in NAMES[:2]]
    assert [(one.case, one.source.name, len(one.found)) for one in made] == [*mixes, (SEARCH, "one", 2)]
    assert [one.share for one in made] == [1.0] * len(made)
    assert len({tuple(tokens) for one in made for tokens in one.expected}) > 6
