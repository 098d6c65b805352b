"""The tasks that are learned; a new task is an entry in the table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.quality.methods import CLASSIFIERS, WRITERS, Method
from benchmarks.support.data import data_file


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A task, its files below the data folder, and the budget of a run."""

    base: str
    """A key of `demos.models`."""
    task: str
    train: str
    test: str
    metric: str
    scale: float
    """Factor that turns the metric into points."""
    methods: Mapping[str, Method]
    standard: tuple[str, ...]
    """The methods that are run unless others are named."""
    examples: int
    passes: int
    """Over the training examples; a method with two views of an example makes two passes at once."""
    batch: int = 32
    fields: Mapping[str, Any]
    labelled: bool = True
    """The task has labels, of which K shots can be drawn."""

    def files(self) -> dict[str, str]:
        """Return the fields of a recipe that name the files, having checked that they are there."""
        names = {"train_file": self.train, "test_file": self.test}
        return {field: ",".join(str(data_file(name)) for name in value.split(",")) for field, value in names.items()}


STANDARD = ("full", "head", "adapter", "adapter-consistency", "adamix", "adamix-no-consistency")
ENCODER = {"r": 16, "max_length": 64, "length_bucketing": True, "validation_share": 0.04}

SUBJECTS: dict[str, Subject] = {
    "sst2": Subject(
        base="minilm",
        task="sst2",
        train="sst2/train.tsv",
        test="sst2/test.tsv",
        metric="accuracy",
        scale=100,
        methods=CLASSIFIERS,
        standard=STANDARD,
        examples=1000,
        passes=6,
        fields=ENCODER,
    ),
    "mrpc": Subject(
        base="minilm",
        task="mrpc",
        train="mrpc/train.txt",
        test="mrpc/test.txt",
        metric="accuracy",
        scale=100,
        methods=CLASSIFIERS,
        standard=STANDARD,
        examples=1000,
        passes=6,
        fields={**ENCODER, "max_length": 80, "validation_share": 0.07},
    ),
    "cola": Subject(
        base="minilm",
        task="cola",
        train="cola/in_domain_train.tsv",
        test="cola/in_domain_dev.tsv,cola/out_of_domain_dev.tsv",
        metric="matthews",
        scale=100,
        methods=CLASSIFIERS,
        standard=STANDARD,
        examples=2000,
        passes=3,
        fields={**ENCODER},
    ),
    "e2e": Subject(
        base="smollm2",
        task="e2e_nlg",
        train="e2e/devset.csv",
        test="e2e/testset_w_refs.csv",
        metric="bleu",
        scale=1,
        methods=WRITERS,
        standard=tuple(WRITERS),
        examples=4200,
        passes=6,
        batch=8,
        fields={"max_length": 160, "length_bucketing": True, "validation_share": 47 / 547},
        labelled=False,
    ),
}
