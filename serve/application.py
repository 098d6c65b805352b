"""The application of a server, from its settings: bundles, API keys, protocols."""

import argparse

from fastapi import FastAPI

from serve.adapter_loading import AdapterLoading
from serve.address import is_loopback
from serve.api_keys import ApiKeys
from serve.bundle.reader import Bundle, open_bundle, with_adapters_of_each
from serve.engine import Engine
from serve.http.app import make_app
from serve.readiness import Readiness
from serve.telemetry.flags import request_observer
from serve.telemetry.metric_flags import metric_options
from serve.telemetry.outage import Outage


def open_bundles(args: argparse.Namespace) -> list[Bundle]:
    """Return the bundles, each with the adapters of --adapter that are made for it."""
    return with_adapters_of_each([open_bundle(folder) for folder in args.bundles], args.adapter)


def application(
    engine: Engine,
    readiness: Readiness,
    api_keys: ApiKeys | None,
    loading: AdapterLoading,
    args: argparse.Namespace,
    outage: Outage | None = None,
    *,
    on_loopback: bool | None = None,
) -> FastAPI:
    """Return the application of an engine, with the limits and the telemetry of the settings.

    `outage` is what the workers of a server know of a collector that is down. `on_loopback` is whether it is reached
    from its own machine alone; None is as --host says.
    """
    return make_app(
        engine,
        max_client_batch_size=args.max_client_batch_size,
        payload_limit=args.payload_limit,
        payloads_limit=args.payloads_limit,
        body_timeout=args.body_timeout_secs,
        loading=loading,
        cors_origins=args.cors_origin,
        on_loopback=is_loopback(args.host) if on_loopback is None else on_loopback,
        readiness=readiness,
        api_keys=api_keys,
        metrics=metric_options(args),
        observer=request_observer(engine, args, outage),
    )
