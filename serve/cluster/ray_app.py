"""The application on Ray Serve: fronts that read which adapter a request names, and replicas of the engine."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, closing, suppress
from typing import Any

from fastapi import FastAPI
from ray import serve as ray_serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from serve.adapter_service import check_adapter_settings, load_pinned, watched, with_lookup
from serve.api_keys import ApiKeys, read_api_keys
from serve.application import application, open_bundles
from serve.args import load_options, parse_args
from serve.cluster.adapter_name import adapter_of
from serve.cluster.asgi import (
    Asgi,
    Message,
    Receive,
    Send,
    answer,
    answer_lifespan,
    behind_ray,
    plain_scope,
)
from serve.cluster.loading import ReplicaLoading
from serve.cluster.ray_metrics import RayMetrics
from serve.cluster.settings import ClusterSettings, command_line
from serve.engines import make_engines
from serve.errors import DeviceLost
from serve.http.app import PROTOCOLS
from serve.http.body_limit import BodyLimitMiddleware
from serve.http.error_responses import ErrorResponder
from serve.limit_flags import limits
from serve.readiness import Readiness
from serve.telemetry.logs import configure_logging

ROUTER = "serve.cluster.router:AdapterRouter"
FRONT_CPUS = 0.0
"""Cores that Ray keeps for a front: with any, replicas that fill the cluster would leave no place for it."""
FRONT_REQUESTS = 4
"""Requests of a front, by those of a replica."""
HEALTH_SECONDS, HUNG_SECONDS = 5.0, 10.0
"""Seconds between two health checks of a replica, and after which one that has no answer has failed."""


class Replica:
    """One engine with its application, as a single server has it."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Open the bundles that a command line of adamix-serve names."""
        args = parse_args(list(argv))
        configure_logging(args.log_format, logging.INFO)
        check_adapter_settings(args)
        engine = make_engines(open_bundles(args), limits(args), **load_options(args))
        loading = ReplicaLoading(engine=engine, root=args.adapter_dir)
        engine = with_lookup(engine, loading, args)
        load_pinned(loading, args)
        api_keys = None if args.api_keys is None else ApiKeys(read_api_keys(args.api_keys))
        self.readiness = Readiness(engine, is_warm=False)
        # Not args.host, but the settings of Ray's proxies say where it is reached.
        self.application = application(engine, self.readiness, api_keys, loading, args, on_loopback=False)
        ending = ExitStack()
        ending.enter_context(closing(self.application.state.observer))
        ending.enter_context(watched(loading, args))
        ending.enter_context(RayMetrics(self.application.state.metrics.registry))
        self.application.router.lifespan_context = _warmed(self.application, self.readiness, ending)

    def __serve_build_asgi_app__(self) -> Asgi:
        """Return the application for Ray Serve, which starts and ends it."""
        return behind_ray(self.application)

    def check_health(self) -> None:
        """Raise an error once only another replica helps, which Ray Serve then starts."""
        self.readiness.check_live()


class ForwardedReplica(Replica):
    """A replica behind fronts, which starts and ends its application itself."""

    async def __init__(self, argv: Sequence[str]) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        super().__init__(argv)
        self.life = self.application.router.lifespan_context(self.application)
        await self.life.__aenter__()

    async def __del__(self) -> None:
        if life := getattr(self, "life", None):
            await life.__aexit__(None, None, None)

    async def forward(self, scope: Mapping[str, Any], body: bytes) -> AsyncIterator[list[Message]]:
        """Yield the messages of a response as they are made; ending the iteration cancels the request."""
        async for messages in answer(behind_ray(self.application), scope, body):
            yield messages


class Front:
    """Sends each request to a replica that holds the adapter that it names."""

    def __init__(self, replicas: DeploymentHandle, limits: Mapping[str, Any]) -> None:
        """Stand before replicas.

        Args:
            replicas: The replicas' handle.
            limits: Arguments of `BodyLimitMiddleware`: this is where bodies arrive.
        """
        self.replicas = replicas.options(stream=True, method_name="forward")
        self.bounded = BodyLimitMiddleware(self.route, **limits, errors=ErrorResponder(PROTOCOLS.values()))

    def __serve_build_asgi_app__(self) -> Asgi:
        """Return the application for Ray Serve, a function: of an object it cannot tell which ASGI it has."""

        async def front(scope: Any, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await answer_lifespan(receive, send)
            else:
                await self.bounded(scope, receive, send)

        return behind_ray(front)

    async def route(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request, whose body is there as a whole."""
        body = (await receive()).get("body", b"")
        handle = self.replicas
        if adapter := adapter_of(scope["path"], body):
            handle = handle.options(multiplexed_model_id=adapter)
        async for messages in handle.remote(plain_scope(scope), body):
            for message in messages:
                await send(message)


def build(settings: Mapping[str, Any]) -> Application:
    """Return the application that the `args` of a Serve configuration describe.

    Args:
        settings: Flags of adamix-serve deploy by name, without dashes; `bundles` is a list of folders.

    Raises:
        ConfigurationError: A setting is unknown or wrong, or means nothing on a cluster.
    """
    return application_of(*command_line(settings))


def application_of(cluster: ClusterSettings, argv: Sequence[str]) -> Application:
    """Return the application of the settings of a deployment, and of the command line of its servers."""
    args = parse_args(list(argv))
    shutdown = {"graceful_shutdown_timeout_s": args.exit_timeout_secs + args.drain_delay}
    replicas = ray_serve.deployment(
        ray_serve.ingress()(Replica) if cluster.route_by == "header" else ForwardedReplica,
        name="replica",
        autoscaling_config=_autoscaling(cluster, 1),
        max_ongoing_requests=cluster.max_requests,
        health_check_period_s=HEALTH_SECONDS,
        health_check_timeout_s=HUNG_SECONDS,
        ray_actor_options={"num_cpus": cluster.cpus_per_replica, "num_gpus": cluster.gpus_per_replica},
        request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        **shutdown,
    ).bind(list(argv))
    if cluster.route_by == "header":
        return replicas
    return ray_serve.deployment(
        ray_serve.ingress()(Front),
        name="front",
        autoscaling_config=_autoscaling(cluster, FRONT_REQUESTS),
        max_ongoing_requests=FRONT_REQUESTS * cluster.max_requests,
        ray_actor_options={"num_cpus": FRONT_CPUS},
        **shutdown,
    ).bind(
        replicas, {"limit": args.payload_limit, "total_limit": args.payloads_limit, "timeout": args.body_timeout_secs}
    )


def _autoscaling(cluster: ClusterSettings, times: int) -> AutoscalingConfig:
    """Return the bounds of a deployment, and so many times the requests that a replica should have."""
    return AutoscalingConfig(
        min_replicas=cluster.min_replicas,
        initial_replicas=cluster.min_replicas,
        max_replicas=cluster.max_replicas,
        target_ongoing_requests=times * cluster.target_requests,
        upscale_delay_s=cluster.scale_up_secs,
        downscale_delay_s=cluster.scale_down_secs,
    )


def _warmed(
    app: FastAPI, readiness: Readiness, ending: ExitStack
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return the life of an application that is warm before it takes requests, and ends what it has begun."""
    own = app.router.lifespan_context

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with ending:
            async with own(app):
                with suppress(DeviceLost):  # which the health check tells
                    await app.state.engine.warm_up()
                readiness.is_warm = True
                yield
                readiness.is_stopping = True
                app.state.engine.prepare_to_drain()

    return life
