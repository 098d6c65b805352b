"""The report of a comparison with PyTorch, as printed and as stored in a bundle's manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from adamix_export.errors import ParityError
from adamix_export.parity.bounds import Bounds

PERPLEXITY = "perplexity"
RISE, DROP = "higher by at most", "lower by at most"
ROUNDING = 1e-9
"""The difference of two metrics is not rounded as one row's share is."""
STORED_BOUNDS = {
    "tolerance": "tolerance",
    "relative": "relative",
    "min_agreement": "least_equal",
    "max_metric_drop": "most_lost",
}
"""Keys of the bounds in `bundle.json` and `adapter.json`, by field; files on disk keep these keys."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Differences between an exported adapter in ONNX Runtime and its checkpoint in PyTorch."""

    rows: int
    """Number of inputs that were compared."""
    data: str
    """Files that the inputs are from."""
    max_difference: float
    """Largest absolute difference of a logit."""
    equal_labels: float
    """Share of inputs with the same label, or the same greedy tokens, on both sides."""
    metric: str
    pytorch: float | None
    """The metric in PyTorch; None without labelled data."""
    onnx: float | None
    """The metric in ONNX Runtime; None without labelled data."""
    provider: str
    """ONNX Runtime's execution provider."""
    bounds: Bounds
    labelled: int = 0
    """Number of inputs that the metric is over; 0 stands for all, as in reports of earlier versions."""
    ensemble: float | None = None
    """The metric of the mean of the modules' probabilities (or values), in ONNX Runtime; None where the modules are not
    kept beside their mean, or without labelled data."""
    spread: float | None = None
    """Standard deviation over the inputs of the logit that varies most, in PyTorch; None if it is not known."""

    @property
    def largest_difference(self) -> float:
        """Largest accepted difference of a logit."""
        return self.bounds.largest_difference(self.spread)

    @property
    def metric_drop(self) -> float | None:
        """Metric lost in ONNX Runtime: absolute, but relative for perplexity, of which lower is better."""
        if self.pytorch is None or self.onnx is None:
            return None
        return self.onnx / self.pytorch - 1 if self.metric == PERPLEXITY else self.pytorch - self.onnx

    @property
    def allowed_drop(self) -> float | None:
        """Largest accepted `metric_drop`; a metric over inputs may always lose one of them."""
        largest = self.bounds.max_metric_drop
        return (
            largest if largest is None or self.metric == PERPLEXITY else max(largest, 1 / (self.labelled or self.rows))
        )

    @property
    def passed(self) -> bool:
        """True if every difference is within the bounds."""
        close = self.max_difference <= self.largest_difference and self.equal_labels >= self.bounds.min_agreement
        drop, allowed = self.metric_drop, self.allowed_drop
        return bool(close and (drop is None or allowed is None or drop <= allowed + ROUNDING))

    def as_dict(self) -> dict[str, Any]:
        """Return the report as the manifest stores it."""
        bounds = {stored: getattr(self.bounds, name) for name, stored in STORED_BOUNDS.items()}
        return {**asdict(self), "bounds": bounds, "passed": self.passed}


def read_reports(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, Parity]:
    """Return the reports in a manifest's `parity`, by adapter."""
    return {adapter: _read_report(report) for adapter, report in stored.items()}


def _read_report(stored: Mapping[str, Any]) -> Parity:
    names = {field.name for field in fields(Parity)} - {"bounds"}
    bounds = stored.get("bounds", {})
    return Parity(
        **{name: value for name, value in stored.items() if name in names},
        bounds=Bounds(**{name: bounds[key] for name, key in STORED_BOUNDS.items() if key in bounds}),
    )


def require_parity(reports: Mapping[str, Parity]) -> None:
    """Raise a `ParityError` for the first report that is not within its bounds."""
    for name, report in reports.items():
        if not report.passed:
            raise ParityError(
                f"{name}: the exported graph does not agree with PyTorch: {describe_difference(report)}; nothing was "
                "written"
            )


def describe_bounds(report: Parity) -> str:
    """Return the bounds that a comparison was held to as a sentence, with the metric's name."""
    bounds = report.bounds
    parts = [f"logits within {report.largest_difference:.0e}"]
    if bounds.min_agreement:
        parts.append(f"at least {bounds.min_agreement:.0%} of labels equal")
    if report.metric_drop is not None and report.allowed_drop is not None:
        parts.append(f"{report.metric} {RISE if report.metric == PERPLEXITY else DROP} {report.allowed_drop:.2%}")
    return ", ".join(parts)


def describe_difference(report: Parity) -> str:
    """Return the differences from PyTorch and their bounds as a sentence."""
    text = (
        f"logits differ by up to {report.max_difference:.2e} (tolerance {report.largest_difference:.0e}), "
        f"{report.equal_labels:.2%} of {report.rows} labels are equal"
    )
    if report.bounds.min_agreement < 1:
        text += f" (at least {report.bounds.min_agreement:.0%})"
    if report.metric_drop is not None and report.allowed_drop is not None:
        text += f", {report.metric} lost {report.metric_drop:.2%} (at most {report.allowed_drop:.2%})"
    return text
