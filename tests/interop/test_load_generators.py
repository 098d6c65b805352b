"""Load generators at their defaults but for address, model, tokenizer and number of requests: none of theirs fails."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import HERE
from tests.adamix_export.converters.peer import peer
from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.chat_templates import HERMES
from tests.interop.conftest import serving

pytestmark = pytest.mark.slow
REQUESTS = 20
CONTEXT = 8192
"""More tokens than any of them asks for by default."""


@dataclass(frozen=True)
class Outcome:
    """The outcome by the tool's own count."""

    done: int
    failed: int
    figures: dict[str, float]


@dataclass(frozen=True)
class LoadGenerator:
    """A tool and how it is called."""

    options: str
    """Behind the interpreter; {address}, {tokenizer} and {out}, an empty folder, are filled in."""
    result: str
    """The file in {out} that it writes, as a glob pattern."""
    read: Callable[[Any], Outcome]


def _guidellm(found: Any) -> Outcome:
    metrics = found["benchmarks"][0]["metrics"]
    totals, mean = metrics["request_totals"], metrics["requests_per_second"]["successful"]["mean"]
    first = metrics["time_to_first_token_ms"]["successful"]["median"]
    return Outcome(totals["successful"], totals["errored"], {"requests/s": mean, "median TTFT ms": first})


def _aiperf(found: Any) -> Outcome:
    done, failed = found["request_count"]["avg"], found.get("error_request_count", {}).get("avg", 0)
    figures = {"requests/s": found["request_throughput"]["avg"], "mean latency ms": found["request_latency"]["avg"]}
    return Outcome(int(done), int(failed) + len(found["error_summary"]), figures)


def _evalscope(found: Any) -> Outcome:
    figures = {"requests/s": found["Req Throughput (req/s)"], "mean TTFT ms": found["Avg TTFT (ms)"]}
    return Outcome(found["Success Requests"], found["Failed Requests"], figures)


def _vllm(found: Any) -> Outcome:
    figures = {"requests/s": found["request_throughput"], "median TTFT ms": found["median_ttft_ms"]}
    figures["output tokens/s"] = found["output_throughput"]
    return Outcome(found["completed"], found["failed"], figures)


GENERATORS = {
    "guidellm": LoadGenerator(
        "-m guidellm run --backend kind=openai_http,target={address},model=base"
        " --tokenizer kind=huggingface_auto,model={tokenizer} --profile kind=concurrent,streams=4"
        f" --constraint kind=max_requests,count={REQUESTS}"
        " --data kind=synthetic_text,prompt_tokens=256,output_tokens=64"
        " --output kind=json,path={out}/found.json --disable-progress",
        "found.json",
        _guidellm,
    ),
    "aiperf": LoadGenerator(
        "-m aiperf profile --model base --url {address} --tokenizer {tokenizer} --output-artifact-dir {out}"
        f" --request-count {REQUESTS} --ui none",
        "profile_export_aiperf.json",
        _aiperf,
    ),
    "evalscope": LoadGenerator(
        "-m evalscope.cli.cli perf --url {address}/v1/chat/completions --model base --api openai --dataset random"
        " --tokenizer-path {tokenizer} --min-prompt-length 256 --max-prompt-length 256"
        f" --outputs-dir {{out}} -n {REQUESTS}",
        "**/benchmark_summary.json",
        _evalscope,
    ),
    "vllm": LoadGenerator(
        f"{HERE / 'vllm_bench_serve.py'} --base-url {{address}} --model base --tokenizer {{tokenizer}}"
        f" --num-prompts {REQUESTS} --save-result --result-dir {{out}} --result-filename found.json",
        "found.json",
        _vllm,
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a context that is long enough; its folder has the tokenizer as well."""
    return write_byte_bundle(tmp_path_factory.mktemp("long") / "bundle", HERMES, context=CONTEXT)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Address of a server with that bundle."""
    with serving(folder) as address:
        yield address


@pytest.mark.parametrize("name", GENERATORS)
def test_no_request_of_theirs_fails(
    name: str, address: str, folder: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tool, generator = peer(name), GENERATORS[name]
    options = generator.options.format(address=address, tokenizer=folder, out=tmp_path).split()
    # aiperf takes no folder for a tokenizer when it is told to stay away from the hub, which it does not need.
    environment = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "PYTHONPATH")}
    command = [str(tool.python), *options]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
    found = list(tmp_path.glob(generator.result))
    assert len(found) == 1, result.stdout[-2000:] + result.stderr[-2000:]
    outcome = generator.read(json.loads(found[0].read_text()))
    assert (outcome.done, outcome.failed) == (REQUESTS, 0), result.stdout[-4000:]
    for package, version in tool.versions().items():
        record_property(package.partition("/")[2], version)
    record_property("figures", ", ".join(f"{value:.1f} {what}" for what, value in outcome.figures.items()))
