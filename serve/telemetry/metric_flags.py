"""Flags of the metrics, and what they ask for."""

import argparse

from serve.telemetry.prometheus import DEFAULT_METRICS, METRIC_SETS, MetricOptions


def add_metric_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--metrics",
        action="append",
        choices=list(METRIC_SETS),
        default=[],
        help="names of the metrics: our own, or vLLM's, which dashboards and routers know; repeatable "
        f"(default: {', '.join(DEFAULT_METRICS.sets)})",
    )
    parser.add_argument(
        "--open-metrics",
        action="store_true",
        help="with --api-keys: answer /metrics without a key, as routers scrape it; it names adapters, and no texts",
    )


def metric_options(args: argparse.Namespace) -> MetricOptions:
    """Return the metrics that the flags ask for."""
    return MetricOptions(
        sets=args.metrics or DEFAULT_METRICS.sets, max_adapters=args.max_metric_adapters, are_open=args.open_metrics
    )
