"""The tasks by name; a new one is an entry in the table."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from adamix_train.readers.files import READERS, Reader
from adamix_train.readers.triples import read_dart, read_webnlg


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Where the `datasets` library finds a task's sets."""

    path: str
    config: str | None = None
    revision: str | None = None
    """The branch with the files converted to Parquet, for sets that are published as a script."""
    test: str = "validation"
    """The split that is reported: GLUE keeps the labels of its test sets to itself."""
    references: str | None = None
    """The column with all texts of a reported row, where there are several."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """How a task's data is read and how it is judged."""

    kind: str = "classification"
    """A key of `adamix_train.objectives.OBJECTIVES`: what is learned."""
    inputs: tuple[str, ...] = ("text",)
    """The columns that go into the model: one, or two for a pair."""
    target: str = "label"
    """The column of the label, the score, or the text to write."""
    labels: tuple[str, ...] | None = None
    """Names for the labels 0, 1, … that stand in its files; None takes the labels as they stand."""
    metrics: tuple[str, ...] = ("accuracy",)
    """Keys of `adamix_train.metrics.METRICS`; the first decides which checkpoint is best."""
    prompt: str = "{input}"
    """Generation: the text in front of the target."""
    header: tuple[str, ...] | None = None
    """The columns of its files where they have no header line."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Columns of its official files that have other names than on the hub."""
    quoted: bool = True
    """Whether a quotation mark in a field is syntax rather than text."""
    readers: Mapping[str, Reader] = field(default_factory=lambda: READERS)
    """How its files are read, by suffix."""
    hub: Hub | None = None


def _glue(config: str, *, test: str = "validation") -> Hub:
    return Hub(path="nyu-mll/glue", config=config, test=test)


ARROW = "{input} =>"
CONVERTED = "refs/convert/parquet"
ENTAILMENT = ("entailment", "not_entailment")
WRITING = ("bleu", "chrf", "nist", "meteor", "rouge_l", "cider")
SENTENCES = ("sentence1", "sentence2")
OFFICIAL_PAIR = {"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"}

TASKS: dict[str, Task] = {
    "classification": Task(),
    "pair-classification": Task(inputs=("text", "pair")),
    "regression": Task(kind="regression", metrics=("pearson", "spearman"), target="score"),
    "pair-regression": Task(
        kind="regression", metrics=("pearson", "spearman"), target="score", inputs=("text", "pair")
    ),
    "generation": Task(
        kind="generation", inputs=("input",), target="target", prompt=ARROW, metrics=WRITING
    ),
    # GLUE (Wang et al., 2019), under its hub names and in the files that its authors publish.
    "sst2": Task(
        header=("sentence", "label"), quoted=False, inputs=("sentence",), labels=("negative", "positive"),
        hub=_glue("sst2"),
    ),
    "cola": Task(
        header=("source", "label", "star", "sentence"), quoted=False, inputs=("sentence",),
        labels=("unacceptable", "acceptable"), metrics=("matthews", "accuracy"), hub=_glue("cola"),
    ),
    "mrpc": Task(
        rename=OFFICIAL_PAIR, quoted=False, inputs=SENTENCES, labels=("different", "equivalent"),
        metrics=("accuracy", "f1"), hub=_glue("mrpc", test="test"),
    ),
    "stsb": Task(
        kind="regression", rename={"score": "label"}, quoted=False, inputs=SENTENCES,
        metrics=("pearson", "spearman"), hub=_glue("stsb"),
    ),
    "qqp": Task(
        rename={"is_duplicate": "label"}, quoted=False, inputs=("question1", "question2"),
        labels=("different", "duplicate"), metrics=("accuracy", "f1"), hub=_glue("qqp"),
    ),
    "mnli": Task(
        rename={"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"}, quoted=False,
        inputs=("premise", "hypothesis"), labels=("entailment", "neutral", "contradiction"),
        hub=_glue("mnli", test="validation_matched"),
    ),
    "qnli": Task(quoted=False, inputs=("question", "sentence"), labels=ENTAILMENT, hub=_glue("qnli")),
    "rte": Task(quoted=False, inputs=SENTENCES, labels=ENTAILMENT, hub=_glue("rte")),
    "wnli": Task(quoted=False, inputs=SENTENCES, labels=("not_entailment", "entailment"), hub=_glue("wnli")),
    # Data to text; "=>" marks where the text begins.
    "e2e_nlg": Task(
        kind="generation", rename={"mr": "meaning_representation", "ref": "human_reference"},
        inputs=("meaning_representation",), target="human_reference", prompt=ARROW, metrics=WRITING,
        hub=Hub(path="tuetschek/e2e_nlg", revision=CONVERTED, test="test"),
    ),
    "web_nlg": Task(
        kind="generation", inputs=("input",), target="target", prompt=ARROW, metrics=WRITING,
        readers={**READERS, ".json": read_webnlg},
        hub=Hub(path="GEM/web_nlg", config="en", revision=CONVERTED, test="test", references="references"),
    ),
    "dart": Task(
        kind="generation", inputs=("tripleset",), target="target", prompt=ARROW, metrics=WRITING,
        readers={**READERS, ".json": read_dart},
        hub=Hub(path="GEM/dart", revision=CONVERTED, test="test", references="references"),
    ),
}  # fmt: skip
