"""Twenty classifiers on the sample base: the demo's two, eight of adamix-train, and ten that PEFT trained by itself.

Each is trained once, in a folder that is kept, and compared on the test data of its task.
"""

import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from adamix_cli.progress_bar import progress_bar
from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.checkpoint.facts import Facts
from adamix_train.artifacts.checkpoint import CONFIG
from adamix_train.data.examples import Example
from adamix_train.data.splits import read_all
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.tasks.table import TASKS
from benchmarks.support.data import data_file
from demos.models import sample_model
from demos.tasks import DATA as DEMO

BASE = "minilm"
SEED = 0
STEPS, BATCH, LENGTH = 300, 16, 128
"""Training of an adapter by PEFT alone."""
RATE = 2e-3
LINEAR = ["query", "key", "value", "dense"]
DEMO_EPOCHS = 10
"""As in the README."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and test data of a task, in its official files."""

    task: str
    train: Callable[[], Path]
    test: Callable[[], Path]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """An adapter of adamix-train."""

    data: Data
    settings: Mapping[str, Any]
    """Fields of its recipe."""

    def make(self, out: Path) -> None:
        """Train it."""
        files = {"train_file": str(self.data.train()), "test_file": str(self.data.test())}
        train(Recipe(**{"base": str(sample_model(BASE)), "out": str(out), "task": self.data.task, "report_to": "none",
                        **files, **self.settings}))  # fmt: skip

    def open(self, argument: str) -> Checkpoint:
        """Open it for export."""
        return open_checkpoint(argument)


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """An adapter that PEFT trained, in a loop of PyTorch."""

    data: Data
    rows: int
    config: Callable[[], peft.PeftConfig]

    def make(self, out: Path) -> None:
        """Train it."""
        torch.manual_seed(SEED)
        base, labels = str(sample_model(BASE)), TASKS[self.data.task].labels or ()
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels))
        adapted = peft.get_peft_model(model, self.config())
        examples = read_all(str(self.data.train()), TASKS[self.data.task])
        chosen = random.Random(SEED).sample(examples, self.rows)
        _fit(adapted, AutoTokenizer.from_pretrained(base), chosen, labels.index)
        adapted.save_pretrained(out)

    def open(self, argument: str) -> Checkpoint:
        """Open it for export."""
        labels = TASKS[self.data.task].labels
        return open_checkpoint(argument, facts=Facts(labels=labels, task=self.data.task, max_length=LENGTH))


def _fit(model: Any, tokenizer: Any, examples: list[Example], index: Callable[[str], int]) -> None:
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    batches = _batches(examples)
    for step in progress_bar(range(STEPS), unit="step"):
        batch = next(batches)
        columns = [list(column) for column in zip(*(example.texts for example in batch), strict=True)]
        inputs = tokenizer(*columns, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt")
        targets = torch.tensor([index(str(example.target)) for example in batch])
        model(**inputs, labels=targets).loss.backward()
        optimizer.step()
        schedule.step()
        if hasattr(model.base_model, "update_and_allocate"):  # AdaLoRA moves ranks between layers
            model.base_model.update_and_allocate(step)
        optimizer.zero_grad()


def _batches(examples: list[Example]) -> Iterator[list[Example]]:
    """Yield batches without end, in a new order in each pass."""
    order = random.Random(SEED)
    while True:
        shuffled = order.sample(examples, len(examples))
        for start in range(0, len(shuffled) - BATCH + 1, BATCH):
            yield shuffled[start : start + BATCH]


def _demo(name: str) -> Data:
    files = {split: partial((DEMO / name).joinpath, f"{split}.csv") for split in ("train", "test")}
    return Data(task="classification", **files)


SST2 = Data(task="sst2", train=partial(data_file, "sst2/train.tsv"), test=partial(data_file, "sst2/dev.tsv"))
COLA = Data(
    task="cola",
    train=partial(data_file, "cola/in_domain_train.tsv"),
    test=partial(data_file, "cola/in_domain_dev.tsv"),
)
MRPC = Data(task="mrpc", train=partial(data_file, "mrpc/train.txt"), test=partial(data_file, "mrpc/test.txt"))
HOUSLBY, LORA = {"kind": "houlsby"}, {"kind": "lora", "r": 8, "lora_alpha": 16.0}
TASK: dict[str, Any] = {"task_type": "SEQ_CLS"}
RANK: dict[str, Any] = {**TASK, "r": 8, "lora_alpha": 16, "target_modules": LINEAR}
ADAPTERS: dict[str, Trained | Foreign] = {
    "tone": Trained(data=_demo("tone"), settings={"epochs": DEMO_EPOCHS}),
    "intent": Trained(data=_demo("intent"), settings={"epochs": DEMO_EPOCHS}),
    "sst2-100-houlsby": Trained(data=SST2, settings={**HOUSLBY, "train_limit": 100, "epochs": 10, "batch_size": 16}),
    "sst2-300-lora": Trained(data=SST2, settings={**LORA, "train_limit": 300, "epochs": 6, "batch_size": 16}),
    "sst2-1000-houlsby": Trained(data=SST2, settings={**HOUSLBY, "train_limit": 1000, "epochs": 3, "batch_size": 16}),
    "sst2-2000-lora": Trained(data=SST2, settings={**LORA, "train_limit": 2000, "epochs": 2, "batch_size": 16}),
    "mrpc-1000-lora": Trained(data=MRPC, settings={**LORA, "train_limit": 1000, "epochs": 3, "batch_size": 16}),
    "mrpc-2000-houlsby": Trained(data=MRPC, settings={**HOUSLBY, "train_limit": 2000, "epochs": 2, "batch_size": 16}),
    "cola-1000-houlsby": Trained(data=COLA, settings={**HOUSLBY, "train_limit": 1000, "epochs": 3, "batch_size": 16}),
    "cola-2000-lora": Trained(data=COLA, settings={**LORA, "train_limit": 2000, "epochs": 2, "batch_size": 16}),
    "peft-lora": Foreign(data=SST2, rows=2000, config=partial(peft.LoraConfig, **{**RANK, "target_modules": None})),
    "peft-lora-linear": Foreign(data=SST2, rows=500, config=partial(peft.LoraConfig, **RANK)),
    "peft-dora": Foreign(data=SST2, rows=1000, config=partial(peft.LoraConfig, **RANK, use_dora=True)),
    "peft-rslora": Foreign(data=MRPC, rows=2000, config=partial(peft.LoraConfig, **RANK, use_rslora=True)),
    "peft-pissa": Foreign(data=SST2, rows=1000, config=partial(peft.LoraConfig, **RANK, init_lora_weights="pissa")),
    "peft-bias": Foreign(data=COLA, rows=2000, config=partial(peft.LoraConfig, **RANK, bias="all")),
    "peft-adalora": Foreign(
        data=SST2, rows=1000, config=partial(peft.AdaLoraConfig, **TASK, target_modules=LINEAR, total_step=STEPS)
    ),
    "peft-ia3": Foreign(
        data=MRPC,
        rows=2000,
        config=partial(peft.IA3Config, **TASK, target_modules=LINEAR, feedforward_modules=["dense"]),
    ),
    "peft-loha": Foreign(data=SST2, rows=2000, config=partial(peft.LoHaConfig, **TASK, r=8, target_modules=LINEAR)),
    "peft-oft": Foreign(
        data=SST2, rows=1000, config=partial(peft.OFTConfig, **TASK, oft_block_size=32, r=0, target_modules=LINEAR)
    ),
}
"""Adapters by name."""


def adapters(folder: Path, names: Iterable[str]) -> Iterator[tuple[Checkpoint, Path]]:
    """Yield adapters with the file that each is compared on; one that is not in `folder` is trained first."""
    for name in names:
        adapter = ADAPTERS[name]
        if not (folder / name / CONFIG).is_file():
            shutil.rmtree(folder / name, ignore_errors=True)  # of a training that was cut short
            adapter.make(folder / name)
        yield adapter.open(f"{name}={folder / name}"), adapter.data.test()
