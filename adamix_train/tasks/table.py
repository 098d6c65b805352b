"""The tasks by name; a new task is an entry in the table."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from adamix_train.readers.files import READERS
from adamix_train.readers.reader import FileFormat, Reader
from adamix_train.readers.triples import read_dart, read_webnlg


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Location of a task's sets for `datasets.load_dataset`."""

    path: str
    """Repository id, or a folder."""
    config: str | None = None
    revision: str | None = None
    """Branch with Parquet files, for sets that are published as a script."""
    test: str = "validation"
    """Split that metrics are reported on; GLUE's test sets have no labels."""
    references: str | None = None
    """Column with all references of a test row, where there are several."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Columns, file format and metrics of a task."""

    kind: str = "classification"
    """Key of `tasks.kinds.TASK_KINDS` and `training.objectives.OBJECTIVES`."""
    inputs: tuple[str, ...] = ("text",)
    """Columns of the model's input: one, or two for a pair."""
    target: str = "label"
    """Column of the label, score or target text."""
    labels: tuple[str, ...] | None = None
    """Names of the labels 0, 1, … in its files; None keeps the labels of the files."""
    metrics: tuple[str, ...] = ("accuracy",)
    """Keys of `metrics.table.METRICS`; the first selects the best checkpoint, unless the recipe names another."""
    prompt: str = "{input}"
    """Generation: template of the text before the target."""
    header: tuple[str, ...] | None = None
    """Column names of its files, if those have no header line."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Column name in its official files → name on the Hub."""
    quoted: bool = True
    """Quotation marks can be syntax; False reads tab-separated files as GLUE's loader does: marks are text, and rows
    without all of the task's values are left out."""
    delimiter: str | None = None
    """Character between the fields of its files; None recognises it."""
    readers: Mapping[str, Reader] = field(default_factory=lambda: READERS)
    """File suffix → reader."""
    hub: Hub | None = None

    @property
    def file_format(self) -> FileFormat:
        """Properties of its files that they do not state."""
        return FileFormat(header=self.header, quoted=self.quoted, delimiter=self.delimiter)


def _glue(config: str, *, test: str = "validation") -> Hub:
    return Hub(path="nyu-mll/glue", config=config, test=test)


ARROW = "{input} =>"
CONVERTED = "refs/convert/parquet"
ENTAILMENT = ("entailment", "not_entailment")
WRITING = ("bleu", "chrf", "nist", "meteor", "rouge_l", "cider")
OWN_LABELS = ("accuracy", "macro_f1", "matthews")
SENTENCES = ("sentence1", "sentence2")
OFFICIAL_PAIR = {"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"}

TASKS: dict[str, Task] = {
    "classification": Task(metrics=OWN_LABELS),
    "pair-classification": Task(inputs=("text", "pair"), metrics=OWN_LABELS),
    "regression": Task(kind="regression", metrics=("pearson", "spearman"), target="score"),
    "pair-regression": Task(
        kind="regression", metrics=("pearson", "spearman"), target="score", inputs=("text", "pair")
    ),
    "generation": Task(
        kind="generation", inputs=("input",), target="target", prompt=ARROW, metrics=WRITING
    ),
    # GLUE (Wang et al., 2019), under its Hub names and in the files that its authors publish.
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
    # Data to text; "=>" separates the data from the text.
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
