"""A training step of AdaMix costs what a step of PEFT's LoRA costs, and twice that with two views of a batch.

A step is forward, backward and AdamW on the same base and batch. PEFT's LoRA and AdaMix as published (`adamix`) adapt
query and value with rank 8; `default` is what `adamix-train` does without a flag: Houlsby adapters that each take an
equal share of the batch. With `_consistency`, two views of the batch go through the base, which is where a factor of
two is from; `peft_lora_twice`, LoRA's own step on a batch twice as large, says what that alone costs on the machine.
"""

import tempfile
from collections.abc import Callable
from typing import Any

import peft
import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments

from adamix_train.base_model.load import Base, load_classifier
from adamix_train.peft_method import AdaMixConfig
from adamix_train.recipe.defaults import Situation, complete
from adamix_train.recipe.recipe import Recipe
from adamix_train.training.methods import build_trainable_model
from adamix_train.training.objectives import objective_of
from adamix_train.training.trainer import AdaMixTrainer
from benchmarks.support.comparison import Comparison
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings, Goal
from benchmarks.support.rounds import Pace, measure
from demos.models import sample_model

BASE = "minilm"
LABELS = ["no", "yes"]
R, ALPHA, MODULES = 8, 16, 4
CASES = {"8x32": (8, 32), "32x32": (32, 32), "8x128": (8, 128)}
"""Batch x sequence."""
PEER = "peft_lora"
GOALS = {"adamix": 1.05, "adamix_consistency": 2.1, "default": 1.05, "default_consistency": 2.1}
VERSIONS = ("torch", "transformers", "peft", "accelerate")


def measure_steps(pace: Pace) -> Findings:
    """Time the steps of all sides, interleaved."""
    with tempfile.TemporaryDirectory() as scratch:
        steps = {PEER: lora_step(scratch)}
        steps |= {side: adamix_step(scratch, weight) for side, weight in WEIGHTS.items()}
        steps |= {side: default_step(scratch, weight) for side, weight in DEFAULT_WEIGHTS.items()}
        batches = {case: random_batch(*shape) for case, shape in CASES.items()}
        work = {case: {side: _call(step, batch) for side, step in steps.items()} for case, batch in batches.items()}
        for case, batch in batches.items():
            twice = {name: torch.cat([values, values]) for name, values in batch.items()}
            work[case][f"{PEER}_twice"] = _call(steps[PEER], twice)
        timings = measure(work, pace)
    comparison = Comparison(PEER, timings)
    costs = {side: [comparison.ratio(case, side) for case in CASES] for side in GOALS}
    worst = {side: max(ratios, key=lambda ratio: ratio.value) for side, ratios in costs.items()}
    return Findings(
        goals=[
            Goal(
                what=f"step of {side} by a step of PEFT's LoRA, worst shape",
                value=worst[side].value,
                goal=goal,
                better="lower",
            )
            for side, goal in GOALS.items()
        ],
        rows=comparison.rows(),
        versions=versions_of(VERSIONS),
        worst=", ".join(f"{side} {ratio.value:.3f} at {ratio.case}" for side, ratio in worst.items()),
    )


WEIGHTS = {"adamix": 0.0, "adamix_consistency": 1.0}
DEFAULT_WEIGHTS = {"default": 0.0, "default_consistency": 1.0}
"""Side → weight of the consistency loss; without it a step has one view."""
Step = Callable[[dict[str, Tensor]], object]


def lora_step(scratch: str, base: Any = None, *, bf16: bool = False) -> Step:
    """Return a training step of PEFT's own LoRA on a base, MiniLM by default, in transformers' own Trainer."""
    config = peft.LoraConfig(task_type="SEQ_CLS", r=R, lora_alpha=ALPHA, target_modules=["query", "value"])
    return _step(
        Trainer(model=peft.get_peft_model(_base() if base is None else base, config), args=_arguments(scratch)),
        bf16=bf16,
    )


def adamix_step(scratch: str, weight: float, base: Any = None, *, bf16: bool = False) -> Step:
    """Return a training step of a LoRA mixture with a weight of the consistency loss."""
    config = AdaMixConfig(task_type="SEQ_CLS", kind="lora", r=R, lora_alpha=ALPHA, num_modules=MODULES)
    model = peft.get_peft_model(_base() if base is None else base, config)
    return _step(AdaMixTrainer(model=model, args=_arguments(scratch), consistency_weight=weight), bf16=bf16)


def default_step(scratch: str, weight: float) -> Step:
    """Return a training step of what a recipe of labels that says nothing trains, with that weight."""
    chosen = complete(Recipe(base=BASE, out=scratch), Situation(rows=1000, width=384)).recipe
    assert chosen.routing
    assert chosen.labels_on
    objective = objective_of("classification", encoder_decoder=False)
    trainer = AdaMixTrainer(
        model=build_trainable_model(Base(model=_base(), new_modules=[]), chosen, objective),
        args=_arguments(scratch),
        consistency_weight=weight,
        labels_on=chosen.labels_on if weight else "first",
        routing=chosen.routing,
    )
    return _step(trainer, bf16=False)


def random_batch(rows: int, length: int) -> dict[str, Tensor]:
    """Return token ids (rows, length) with a full mask, and labels (rows,)."""
    torch.manual_seed(0)
    ids = torch.randint(1000, 20000, (rows, length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.randint(0, 2, (rows,))}


def _base() -> Any:
    torch.manual_seed(0)
    return load_classifier(sample_model(BASE), LABELS)


def _arguments(scratch: str) -> TrainingArguments:
    return TrainingArguments(output_dir=scratch, report_to="none", label_names=["labels"], disable_tqdm=True)


def _step(trainer: Trainer, *, bf16: bool) -> Step:
    optimizer = torch.optim.AdamW([weight for weight in trainer.model.parameters() if weight.requires_grad], lr=1e-4)
    model = trainer.model.train()

    def step(batch: dict[str, Tensor]) -> object:
        trainer.state.global_step += 1
        with torch.autocast(trainer.args.device.type, torch.bfloat16, enabled=bf16):
            loss = trainer.compute_loss(model, dict(batch))
        trainer.accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def _call(step: Step, batch: dict[str, Tensor]) -> Callable[[], object]:
    return lambda: step(batch)


if __name__ == "__main__":
    main(Benchmark(name="train_step", claim=str(__doc__), measure=measure_steps))
