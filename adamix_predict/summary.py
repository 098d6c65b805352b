"""The summary of a job: how many rows, how fast, and how good."""

from dataclasses import dataclass, field
from typing import Any

from adamix_predict.metrics import Metrics


@dataclass(kw_only=True)
class Summary:
    """Counts of a job, which grow with its rows."""

    rows: int = 0
    bad_rows: int = 0
    """Rows that have no prediction."""
    cut_texts: int = 0
    """Texts of which the adapter has read a part."""
    seconds: float = 0.0
    """Time from the first row to the last, without opening the bundle."""
    metrics: dict[str, Metrics] = field(default_factory=dict)
    """Metrics by adapter, of the rows that have an expected label or score."""

    @property
    def rows_per_second(self) -> float:
        """Rows in a second; 0 before the end."""
        return self.rows / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON has them."""
        return {
            "rows": self.rows,
            "bad_rows": self.bad_rows,
            "cut_texts": self.cut_texts,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second, 1),
            "metrics": {name: one.results() for name, one in self.metrics.items()},
        }

    def lines(self, out: str, error_column: str) -> list[str]:
        """Return the counts as lines for people; `out` names the file that was written."""
        found = [f"{self.rows:,} rows in {self.seconds:.1f} s, {self.rows_per_second:,.1f} rows/s: {out}"]
        for name, one in self.metrics.items():
            results = one.results()
            rows = results.pop("rows")
            found.append(
                f"{name}: {', '.join(f'{metric} {value:.4f}' for metric, value in results.items())} ({rows:,} rows)"
            )
        if self.cut_texts:
            found.append(f"{self.cut_texts:,} texts are longer than their adapter reads, and were cut as in training")
        if self.bad_rows:
            found.append(f"{self.bad_rows:,} rows have no prediction: {error_column} says why")
        return found
