"""Flags of the metrics, and what they ask for."""

import argparse

from serve.telemetry.prometheus import DEFAULT_METRICS, METRIC_SETS, MetricOptions


def add_metric_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flag that chooses names."""
    parser.add_argument(
        "--metrics",
        action="append",
        choices=list(METRIC_SETS),
        default=[],
        help="names of the metrics: our own, or vLLM's, which dashboards and routers know; repeatable "
        f"(default: {', '.join(DEFAULT_METRICS.sets)})",
    )


def metric_options(args: argparse.Namespace) -> MetricOptions:
    """Return the metrics that the flags ask for."""
    return MetricOptions(sets=args.metrics or DEFAULT_METRICS.sets, max_adapters=args.max_metric_adapters)
