"""lm-eval scores the weights of a server as it scores them by itself."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.converters.table import convert
from adamix_export.parity.bounds import Check
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from tests.adamix_train.conftest import NEGATIVE, POSITIVE, make_writer, writing_data
from tests.fixtures.generation_banks import generative_checkpoint
from tests.interop.conftest import Ask, serving

__all__ = ["writing_data"]
pytestmark = pytest.mark.slow
TEMPLATE = (
    "{% for message in messages %}{{ message.content + ' ' }}{% endfor %}{% if add_generation_prompt %}=>{% endif %}"
)
ROWS = 24
CHOICE = """\
task: choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
WRITE = """\
task: write
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{written}}}}"
generation_kwargs: {{until: [" lovely", "\\n\\n"], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: bleu}}, {{metric: exact_match}}]
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose weights are large enough for a wrong graph to show, with a chat template."""
    folder = make_writer(tmp_path_factory.mktemp("writer") / "base", "llama", initializer_range=0.3)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": TEMPLATE}))
    return folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks of random words, one of choices and one of writing."""
    folder, draw = tmp_path_factory.mktemp("tasks"), random.Random(0)
    rows = []
    for _ in range(ROWS):
        words = draw.choices([*POSITIVE, *NEGATIVE, "parcel", "shop"], k=8)
        choices = [f"the {word} was {tone}" for word, tone in zip(words[:3], words[3:6], strict=True)]
        rows.append({"question": f"the {words[6]} is", "choices": choices, "answer": draw.randrange(3), "written": ""})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, content in (("choice", CHOICE), ("write", WRITE)):
        (folder / f"{name}.yaml").write_text(content.format(file=folder / "rows.jsonl"))
    return folder


@pytest.fixture(scope="module")
def exported(base: Path, writing_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An adapter on that base by shape."""
    folder = tmp_path_factory.mktemp("exported")
    generative_checkpoint(folder / "one", base, writing_data, kind="lora", seed=0)
    for shape in ("bank", "merged"):
        checkpoints = [open_checkpoint(f"one={folder / 'one'}")]
        EXPORTS[shape](checkpoints, folder / shape, Options(check=Check(limit=8)), lambda stage: None)
    return {shape: folder / shape for shape in ("bank", "merged")}


@pytest.fixture(scope="module")
def address(exported: dict[str, Path]) -> Iterator[str]:
    """Address of a server with the bank."""
    with serving(exported["bank"]) as address:
        yield address


def numbers(part: Any) -> list[float]:
    """Numbers of a nested list, in order; lm-eval has some of them as texts."""
    return [float(part)] if not isinstance(part, list) else [number for one in part for number in numbers(one)]


def assert_same_choices(found: Any, expected: Any) -> None:
    """Scores and greedy choices are equal to the last decimal, likelihoods but for the order of sums."""
    assert found["scores"] == expected["scores"]
    assert expected["scores"].keys() >= {"acc,none", "acc_norm,none"}
    likelihoods = [[[row[0][0] for row in answer] for answer in one["answers"]] for one in (found, expected)]
    assert numbers(likelihoods[0]) == pytest.approx(numbers(likelihoods[1]), abs=1e-4)
    greedy = [[[row[0][1] for row in answer] for answer in one["answers"]] for one in (found, expected)]
    assert greedy[0] == greedy[1]


def test_scores_are_those_of_the_weights_by_themselves(
    ask: Ask, base: Path, exported: dict[str, Path], address: str, tasks: Path, tmp_path: Path
) -> None:
    for shape, bundle in exported.items():
        convert(bundle, tmp_path / shape, "genai")
    found = ask("lm_eval", address, base, tmp_path / "bank", tmp_path / "merged", tasks)
    choice, write = found["choice"], found["write"]
    for way in choice:
        assert_same_choices(choice[way], choice["hf"])
    assert write["tokens"] == write["genai"] == write["hf"]
    assert found["chat"]["chat"] == found["chat"]["hf"]
    adapter = found["adapter"]
    assert_same_choices(adapter["choice"]["genai"], adapter["choice"]["server"])
    assert adapter["write"]["genai"] == adapter["write"]["server"] != write["hf"]
