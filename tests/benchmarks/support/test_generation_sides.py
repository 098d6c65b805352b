import shutil
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from adamix_export.checkpoint.checkpoint import open_checkpoint
from benchmarks.generate_bank import one_at_a_time
from benchmarks.peers import PEERS
from benchmarks.support import data, generation_sides
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.generation_sides import (
    Ours,
    bank_of_writers,
    e2e_inputs,
    genai,
    hugging_face,
    llama,
    models,
    present,
    prompts,
)
from benchmarks.support.report import Absent
from demos.models import GGUF
from serve.bundle.reader import open_bundle
from tests.adamix_train.conftest import make_writer
from tests.benchmarks.peers.programs import fake_environment
from tests.fixtures.generation_banks import NAMES, generative_checkpoint
from tests.fixtures.hand_computed_decoder import END, HandComputedDecoder, random_decoder, write_decoder_bundle


@pytest.mark.slow
def test_a_job_writes_every_row_through_its_adapter(ours: Ours) -> None:
    rows = [[4, 5, 6], [7, 8, 9], [4, 5, 6]]
    found = ours.write({"rows": rows, "new": 6, "adapters": NAMES})
    assert [len(tokens) for tokens in found["tokens"]] == [7, 7, 7]
    assert found["prefill"] > 0 and found["decode"] > 0
    job = {"rows": rows, "new": 6}
    singly = one_at_a_time(lambda one: ours.write({**one, "adapters": [one["adapter"]]}), job, NAMES)
    assert [one["tokens"][0] for one in singly] == found["tokens"]


def unending(decoder: HandComputedDecoder, prompt: list[int], adapter: str, count: int) -> list[int]:
    """The likeliest tokens by hand, the one that ends other texts among them."""
    tokens: list[int] = []
    for _ in range(count):
        tokens.append(int(decoder.logits([*prompt, *tokens], adapter).argmax()))
    return tokens


def test_no_token_ends_a_text_of_ours(tmp_path: Path) -> None:
    decoder = random_decoder()
    ours = Ours(open_bundle(write_decoder_bundle(tmp_path / "bundle", decoder)), slots=2)
    rows = [[token, 4] for token in range(3, 11)]
    names = ["north", "south"] * 4
    expected = [unending(decoder, row, name, 6) for row, name in zip(rows, names, strict=True)]
    assert any(END in tokens[:-1] for tokens in expected)
    assert ours.write({"rows": rows, "new": 5, "adapters": names})["tokens"] == expected


@pytest.mark.slow
def test_one_model_in_every_form_writes_the_same_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_writer(
        tmp_path / "base", "llama", num_hidden_layers=1, max_position_embeddings=128, initializer_range=0.3
    )
    monkeypatch.setattr(generation_sides, "sample_model", lambda name: base)
    found = models(["fp32"], tmp_path)
    rows, new = [[4, 5, 6], [9, 8, 7]], 4
    ids, model = torch.tensor(rows), AutoModelForCausalLM.from_pretrained(found.merged).eval()
    with torch.inference_mode():
        for _ in range(new + 1):
            ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    expected = ids[:, 3:].tolist()
    assert model.config.eos_token_id not in ids[:, 3:]
    job = {"do": "write", "rows": rows, "new": new}
    assert Ours(found.bundles["fp32"]).write(job)["tokens"] == expected
    with ExitStack() as stack:
        assert hugging_face(stack, found.merged, "transformers")(job)["tokens"] == expected


@pytest.mark.slow
def test_writers_of_a_bank_differ_and_pass_the_checks_of_loading(tmp_path: Path, writing_data: Path) -> None:
    base = make_writer(tmp_path / "base", "llama", num_hidden_layers=1, initializer_range=0.3)
    run = generative_checkpoint(tmp_path / "menu", base, writing_data, kind="lora")
    bundle = bank_of_writers(open_checkpoint(str(run)), "fp32", 3, tmp_path / "bank")
    ours, logits = Ours(bundle), set()
    assert list(ours.generator.cards) == ["a0", "a1", "a2"]
    assert len({card.sha256 for card in ours.generator.cards.values()}) == 3
    for prompt in (ours.generator.prompt("parcel good", name) for name in bundle.adapters):
        logits.add(ours.generator.forced_logits([prompt], [[4]])[0].tobytes())
    assert len(logits) == 3


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """A merged model for peers that do not look at its weights."""
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_genai_writes_with_the_graph_that_its_builder_makes(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = fake_environment(tmp_path, "genai")
    monkeypatch.setitem(PEERS, "genai", peer)
    with ExitStack() as stack:
        write = genai(stack, merged, "int4")
        assert write({"do": "write", "rows": [[4, 5]], "new": 2})["tokens"] == [[6, 7, 8]]
    (config,) = peer.folder.glob("converted/*/genai_config.json")
    assert '"precision": "int4"' in config.read_text() and str(merged) in config.read_text()


def test_llama_writes_with_the_file_that_the_base_came_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smollm2-gguf").mkdir()
    (tmp_path / "smollm2-gguf" / GGUF).write_text("2")
    monkeypatch.setitem(PEERS, "llama", fake_environment(tmp_path, "llama"))
    monkeypatch.setattr(generation_sides, "sample_model", lambda name: tmp_path / name)
    monkeypatch.setattr(generation_sides, "in_fast_format", shutil.copyfile)
    with ExitStack() as stack:
        assert llama(stack, tmp_path)({"do": "write", "rows": [[1, 2]], "new": 1})["generated"] == [2]


def test_a_peer_that_is_not_there_is_named_and_the_others_are_opened(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, "genai", fake_environment(tmp_path, "genai"))
    monkeypatch.setitem(PEERS, "optimum", replace(PEERS["optimum"], environments=tmp_path))
    with ExitStack() as stack:
        opened, absent = present(
            {
                "optimum fp32": partial(hugging_face, stack, merged, "optimum"),
                "genai fp32": partial(genai, stack, merged, "fp32"),
            }
        )
        assert list(opened) == ["genai fp32"]
        assert opened["genai fp32"]({"do": "write", "rows": [[4]], "new": 1})["tokens"] == [[5, 6]]
    assert absent == [Absent(peer="optimum fp32", reason="its environment is not installed: make peers")]


def test_prompts_follow_one_another_in_the_inputs_which_come_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "DATA", tmp_path)
    with pytest.raises(BenchmarkError, match=r"testset_w_refs.csv is missing: set ADAMIX_DATA"):
        e2e_inputs()
    (tmp_path / "e2e").mkdir()
    lines = ["mr,ref", '"b, 2",one', "a,two", '"b, 2",three', "c,four"]
    (tmp_path / "e2e" / "testset_w_refs.csv").write_text("\n".join(lines) + "\n")
    assert e2e_inputs() == ["b, 2", "a", "c"]

    tokenizer = SimpleNamespace(encode=lambda text: SimpleNamespace(ids=[ord(letter) for letter in text]))
    generator = SimpleNamespace(tokenizer=tokenizer)
    assert [bytes(ids).decode() for ids in prompts(generator, 2, 4)] == ["b, 2", "\na\nc"]  # type: ignore[arg-type]
    with pytest.raises(BenchmarkError, match="3 prompts of 4 tokens are more than E2E's inputs come to"):
        prompts(generator, 3, 4)  # type: ignore[arg-type]
