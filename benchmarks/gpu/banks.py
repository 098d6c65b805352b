"""64 adapters in a batch of 64, each row its own, against the graph with one adapter merged."""

from collections.abc import Mapping

from benchmarks.gpu.bundles import ADAPTER, open_prepared, with_many
from benchmarks.gpu.classification import logits_of, rows_of, table_of
from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.torch_sides import require_agreement
from benchmarks.support.rounds import Call, Timing, Timings, measure
from serve.classification.classifier import Classifier

ADAPTERS, TINY_ADAPTERS = 64, 3
KINDS = ("lora", "houlsby")
TOKENS, TINY_TOKENS = (32, 128), (8,)
MERGED, BANK, ALONE = "merged", "bank", "bank, one adapter"


def measure_banks(setting: Setting) -> Outcome:
    """Measure both kinds of adapters on MiniLM."""
    timings: Timings = {}
    for kind in KINDS:
        timings |= measure(sides_of(kind, setting), setting.pace)
    return Outcome(
        rows=table_of(timings, "minilm"),
        figures={f"bank_{kind}": worst_of(kind, timings) for kind in KINDS},
        notes=["Milliseconds are of a batch; the worse of both lengths is held against the goal."],
    )


def sides_of(kind: str, setting: Setting) -> dict[str, dict[str, Call]]:
    """Return the calls of a kind by length: through one merged adapter, and through the bank."""
    count = TINY_ADAPTERS if setting.tiny else ADAPTERS
    merged = Classifier(open_prepared(f"minilm-{kind}-merged", setting), provider=setting.provider)
    bank = Classifier(with_many(open_prepared(f"minilm-{kind}-bank", setting), count), provider=setting.provider)
    names = [f"a{index}" for index in range(count)]
    cases: dict[str, dict[str, Call]] = {}
    for tokens in TINY_TOKENS if setting.tiny else TOKENS:
        plain = rows_of(merged, count, tokens)
        same, different = rows_of(bank, count, tokens, [ADAPTER] * count), rows_of(bank, count, tokens, names)
        require_agreement(logits_of(bank, same), logits_of(merged, plain), f"{kind}: bank and merged")
        cases[f"{kind}, {count}x{tokens}"] = {
            MERGED: lambda rows=plain: merged.run(rows),  # type: ignore[misc]
            BANK: lambda rows=different: bank.run(rows),  # type: ignore[misc]
            ALONE: lambda rows=same: bank.run(rows),  # type: ignore[misc]
        }
    return cases


def worst_of(kind: str, timings: Mapping[str, Mapping[str, Timing]]) -> float:
    """Return the bank's time by that of the merged graph, in the worse of its cases."""
    return max(
        sides[BANK].seconds / sides[MERGED].seconds for case, sides in timings.items() if case.startswith(f"{kind},")
    )
