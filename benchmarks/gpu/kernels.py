"""The kernels of a call: what runs on the GPU, for how long, and how long the GPU waits for the host.

torch's profiler sees every kernel of the process, those of ONNX Runtime and of captured graphs too.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.bundles import open_prepared, with_many
from benchmarks.gpu.classification import rows_of, without_packed
from benchmarks.gpu.decoding import LIMITS, Decoder, Steps, prompts
from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.setting import Setting
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.report import Row
from serve.classification.classifier import Classifier

CALLS, TINY_CALLS = 20, 2
WARM = 3
"""Calls before those that are profiled."""
TOP = 8
"""Kernels of a case that get a row each; the others are one."""
CASES: dict[str, tuple[tuple[int, int], ...]] = {
    "minilm-lora-merged": ((1, 16), (64, 128)),
    "minilm-lora-bank": ((64, 128),),
    "minilm-houlsby-bank": ((64, 128),),
    "roberta-large-merged": ((64, 128),),
    "smollm2-merged": ((1, 0), (64, 0)),
    "smollm2-bank": ((64, 0),),
    "gpt2-medium-merged": ((1, 0), (64, 0)),
}
"""Rows and tokens of the cases by bundle; a step of decoding has no tokens."""
TINY_SIZE = (2, 8)
NEW, TINY_NEW = 256, 8
"""Tokens after which a batch that decodes begins anew."""
OTHERS = "others"


@dataclass(frozen=True)
class Work:
    """The work of a GPU in a call: its kernels, and the wall time."""

    seconds: float
    """Wall time of a call."""
    kernels: dict[str, tuple[float, float]]
    """Seconds on the GPU and launches of a call, by name of kernel or copy."""

    @property
    def busy(self) -> float:
        """Seconds of a call in which a kernel or a copy ran, if none ran beside another."""
        return sum(seconds for seconds, _ in self.kernels.values())


def profile_kernels(setting: Setting) -> Iterator[Outcome]:
    """Yield the rows of all cases measured so far; a case that fails is a note."""
    rows: list[Row] = []
    notes = [f"Milliseconds are of a call; busy is the sum of its kernels and copies. The {TOP} longest have a row."]
    for bundle, cases in CASES.items():
        for count, tokens in cases:
            try:
                work = work_of(_call(bundle, *((count, tokens) if not setting.tiny else TINY_SIZE), setting), setting)
            except (BenchmarkError, RuntimeError) as error:
                notes.append(f"{bundle}, {count} rows: {error}")
                continue
            rows += rows_of_work(f"{bundle}, {count}" + (f"x{tokens}" if tokens else " rows, a step"), work)
            yield Outcome(rows=rows, notes=notes)


def work_of(call: Callable[[], object], setting: Setting) -> Work:
    """Return what the GPU does in a call."""
    count = TINY_CALLS if setting.tiny else CALLS
    for _ in range(WARM):
        call()
    start = time.perf_counter()
    for _ in range(count):
        call()
    seconds = (time.perf_counter() - start) / count
    activity = ProfilerActivity.CUDA if setting.provider == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiler:
        for _ in range(count):
            call()
        if setting.provider == "cuda":
            torch.cuda.synchronize()
    kernels: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for event in profiler.events() or ():
        if event.device_type == DeviceType.CUDA:
            took, launches = kernels[event.name]
            kernels[event.name] = (took + event.time_range.elapsed_us() / 1e6 / count, launches + 1 / count)
    return Work(seconds, dict(kernels))


def rows_of_work(case: str, work: Work) -> list[Row]:
    """Return a row for each of the longest kernels of a case, and one for all others."""
    longest = sorted(work.kernels.items(), key=lambda kernel: -kernel[1][0])
    others = [took for _, took in longest[TOP:]]
    shown = [*longest[:TOP], (OTHERS, (sum(took for took, _ in others), sum(launches for _, launches in others)))]
    return [
        {
            "case": case,
            "wall_ms": work.seconds * 1e3,
            "busy_ms": work.busy * 1e3,
            "kernel": name[:100],
            "ms": took * 1e3,
            "launches": launches,
        }
        for name, (took, launches) in shown
    ]


def _call(name: str, count: int, tokens: int, setting: Setting) -> Callable[[], object]:
    """Return one batch of a classifier, or one step of a batch that decodes."""
    bundle = open_prepared(name, setting)
    is_bank = name.endswith("-bank")
    if name.startswith(("minilm", "roberta")):
        many = with_many(bundle, count) if is_bank else without_packed(bundle)
        classifier = Classifier(many, provider=setting.provider)
        rows = rows_of(classifier, count, tokens, [f"a{index}" for index in range(count)] if is_bank else ())
        return lambda: classifier.run(rows)
    decoder = Decoder(with_many(bundle, count) if is_bank else bundle, LIMITS, provider=setting.provider)
    new = TINY_NEW if setting.tiny else NEW
    return Steps(decoder, prompts(bundle, count), new, is_bank).step
