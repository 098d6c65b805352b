"""A job: a bundle, a data file, and what becomes of its rows."""

from dataclasses import dataclass
from pathlib import Path

from adamix_train.errors import RecipeError

PREFIX = "predicted_"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Predictions that are asked for, the rows that get them, and where they go.

    Raises:
        RecipeError: Two fields contradict each other.
    """

    bundle: Path
    file: Path
    out: Path | None = None
    """File to write; None writes JSONL to the standard output."""
    force: bool = False
    """Replace `out` if it exists."""
    resume: bool = False
    """Keep what is predicted in a journal beside `out` until this is whole, and go on from one that is there."""
    adapter: str | None = None
    """Adapter of all rows; None takes the bundle's only one, or those of `adapter_column`."""
    adapter_column: str | None = None
    text_column: str | None = None
    """None takes `text`, or `input` for a bundle that generates, as adamix-train does."""
    pair_column: str | None = None
    """None takes `pair`, for adapters that take pairs."""
    label_column: str | None = None
    """Column with the expected label or score; None computes no metrics."""
    delimiter: str | None = None
    """Character between the fields of `file`; None recognises it."""
    limit: int | None = None
    """Rows that are read; None reads all."""
    prefix: str = PREFIX
    """Beginning of the names of the columns that are added."""
    keep_bad_rows: bool = False
    """Write a row that cannot be predicted with the reason, rather than stop."""
    scores: bool = False
    """Add a column with the probability of each label."""
    windows: bool = False
    """Read long texts in overlapping windows rather than cut them."""
    members: bool = False
    """Add the spread of the predicted label over the members of the adapter."""
    ensemble: bool = False
    """Predict the mean of the members' probabilities."""
    max_new_tokens: int | None = None
    """Most tokens that are generated for a row."""

    def __post_init__(self) -> None:
        if self.adapter is not None and self.adapter_column is not None:
            raise RecipeError(
                "--adapter and --adapter-column exclude each other: name one adapter, or one for each row"
            )
        if self.resume and self.out is None:
            raise RecipeError("--resume goes on with a file: add --out FILE")
        if self.out is not None and self.out.resolve().is_relative_to(self.bundle.resolve()):
            raise RecipeError(f"--out {self.out} lies in {self.bundle}, which would not open again: write elsewhere")
        if self.out is not None and self.out.exists() and self.out.samefile(self.file):
            raise RecipeError(f"--out is {self.file} itself, which is read: write another file")
        if self.out is not None and self.out.exists() and not self.force:
            raise RecipeError(f"{self.out} exists: give another file, or --force to replace it")
