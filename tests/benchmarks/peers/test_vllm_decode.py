"""The program of vLLM, over a model that counts."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.benchmarks.peers.programs import load_program


@pytest.mark.parametrize(("given", "computed_in"), [(["float32"], "float32"), ([], "auto")])
def test_a_job_is_answered_with_the_tokens_after_the_prompts(
    given: list[str], computed_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model:
        def __init__(self, folder: str, **options: Any) -> None:
            assert (folder, options["dtype"], options["enable_prefix_caching"]) == ("folder", computed_in, False)

        def generate(self, prompts: list[dict[str, list[int]]], asked: Any, *, use_tqdm: bool) -> list[Any]:
            assert asked.ignore_eos and asked.temperature == 0
            last = [prompt["prompt_token_ids"][-1] for prompt in prompts]
            texts = [tuple(range(token + 1, token + 1 + asked.max_tokens)) for token in last]
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=text)]) for text in texts]

    vllm = ModuleType("vllm")
    vars(vllm).update(LLM=Model, SamplingParams=SimpleNamespace)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "2")
    program = load_program("vllm_decode", monkeypatch, vllm=vllm)
    found = program.Writer("folder", *given).write({"do": "write", "rows": [[4, 5], [7, 8]], "new": 2})
    assert found["tokens"] == [[6, 7, 8], [9, 10, 11]]
    assert found["whole"] >= 0


def test_each_row_goes_through_its_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def __init__(self, folder: str, **options: Any) -> None:
            assert (options["enable_lora"], options["max_loras"]) == (True, 2)

        def generate(self, prompts: list[Any], asked: Any, *, use_tqdm: bool, lora_request: list[Any]) -> list[Any]:
            steps = [int(Path(path, "step").read_text()) * number for _, number, path in lora_request]
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=(step,))]) for step in steps]

    for name, step in (("a", 10), ("b", 100)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "step").write_text(str(step))
    vllm, request = ModuleType("vllm"), ModuleType("vllm.lora.request")
    vars(vllm).update(LLM=Model, SamplingParams=SimpleNamespace)
    vars(request).update(LoRARequest=lambda *given: given)
    program = load_program("vllm_decode", monkeypatch, vllm=vllm, **{"vllm.lora.request": request})
    made = program.Writer("folder", adapters=tmp_path)
    found = made.write({"do": "write", "rows": [[4], [5], [6]], "new": 0, "adapters": ["b", "a", "b"]})
    assert found["tokens"] == [[200], [10], [200]]


def test_texts_are_scored_by_the_log_probabilities_of_their_own_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def __init__(self, folder: str, **options: Any) -> None:
            pass

        def generate(self, prompts: list[dict[str, list[int]]], asked: Any, *, use_tqdm: bool) -> list[Any]:
            assert (asked.max_tokens, asked.prompt_logprobs) == (1, 0)
            rows = [prompt["prompt_token_ids"] for prompt in prompts]
            told = [[{token: SimpleNamespace(logprob=-token)} for token in row[1:]] for row in rows]
            return [SimpleNamespace(prompt_logprobs=[None, *one]) for one in told]

    vllm = ModuleType("vllm")
    vars(vllm).update(LLM=Model, SamplingParams=SimpleNamespace)
    program = load_program("vllm_decode", monkeypatch, vllm=vllm)
    assert program.Writer("folder").score({"do": "score", "rows": [[4, 5, 6], [7, 8]]}) == [[5, 6], [8]]
