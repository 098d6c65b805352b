"""The application: one engine behind the protocols that it is capable of."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from inspect import get_annotations
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Route

from serve.adapter_loading import AdapterLoading
from serve.api_keys import ApiKeys
from serve.engine import Capability, Engine
from serve.http import adapter_states, adapters, health, rerank, sagemaker
from serve.http.api_key_middleware import ApiKeyMiddleware
from serve.http.body_limit import BodyLimitMiddleware
from serve.http.docs_page import add_docs_page
from serve.http.error_responses import ErrorResponder
from serve.http.headers import EXPOSED_HEADERS
from serve.http.huggingface import models as huggingface
from serve.http.middleware import (
    PAGES,
    ClientDeadlineMiddleware,
    PlainRequestMiddleware,
    RequestMetricsMiddleware,
    ShutdownMiddleware,
)
from serve.http.oip import generate, infer, messages, repository
from serve.http.openai import chat, completions, models, protocol
from serve.http.openapi import complete_document
from serve.http.origin_middleware import OriginMiddleware
from serve.http.protocol import HttpProtocol
from serve.http.request_middleware import RequestMiddleware, route_templates
from serve.http.tei import predict
from serve.http.vllm import classify, tokenize
from serve.readiness import Readiness
from serve.telemetry.prometheus import DEFAULT_METRICS, MetricOptions, Metrics
from serve.telemetry.request_observer import RequestObserver

PROTOCOLS: dict[str, HttpProtocol] = {
    "health": HttpProtocol(
        routers=(health.router, adapters.router, adapter_states.router, sagemaker.router, tokenize.router),
        error_body=predict.error_body,
    ),
    "tei": HttpProtocol(routers=(predict.router,), error_body=predict.error_body, capability=Capability.CLASSIFY),
    "rerank": HttpProtocol(
        routers=(rerank.router,), error_body=protocol.error_body, prefix="/v2/rerank", capability=Capability.CLASSIFY
    ),
    "huggingface": HttpProtocol(routers=(huggingface.router,), error_body=predict.error_body, prefix="/models"),
    "vllm": HttpProtocol(
        routers=(classify.router,), error_body=predict.error_body, prefix="/classify", capability=Capability.CLASSIFY
    ),
    "oip": HttpProtocol(
        routers=(repository.router, infer.router, generate.router),
        error_body=messages.error_body,
        prefix="/v2",
    ),
    "models": HttpProtocol(routers=(models.router,), error_body=protocol.error_body, prefix="/v1"),
    "openai": HttpProtocol(
        routers=(completions.router, chat.router),
        error_body=protocol.error_body,
        prefix="/v1",
        capability=Capability.GENERATE,
    ),
}
"""Protocols over HTTP by name; a new one is a folder beside this file and an entry here."""

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own telemetry is off, whatever the environment asks for: it would send errors with clients' values."""


def make_app(
    engine: Engine,
    *,
    max_client_batch_size: int = 64,
    payload_limit: int = 2_000_000,
    payloads_limit: int = 256_000_000,
    body_timeout: float = 30.0,
    loading: AdapterLoading | None = None,
    cors_origins: Sequence[str] = (),
    on_loopback: bool = False,
    protocols: Mapping[str, HttpProtocol] = PROTOCOLS,
    readiness: Readiness | None = None,
    api_keys: ApiKeys | None = None,
    metrics: MetricOptions = DEFAULT_METRICS,
    observer: RequestObserver | None = None,
) -> FastAPI:
    """Return the application that serves an engine; it starts the engine on startup and drains it on shutdown.

    Args:
        engine: The engine; protocols that it is not capable of are left out.
        max_client_batch_size: Most texts in one request.
        payload_limit: Most bytes of a request's body.
        payloads_limit: Most bytes of the bodies of all requests at a time.
        body_timeout: Seconds in which a request's body has to arrive.
        cors_origins: Origins whose pages may call it from a browser; `*` is any.
        on_loopback: The server listens on loopback alone.
        loading: Adapters that are loaded while serving; None lets clients load none.
        protocols: Protocols to offer, by name.
        readiness: State that health checks report; None is ready until the engine drains.
        api_keys: Keys of which a request needs one; None answers anybody.
        metrics: Names of the metrics, and how many adapters they tell apart.
        observer: Logs and traces requests; None does neither.
    """
    app = _empty_app()
    app.state.engine, app.state.metrics = engine, Metrics(engine, metrics)
    app.state.observer = observer or RequestObserver(engine)
    app.state.exposition, app.state.api_keys = app.state.metrics.exposition, api_keys
    app.state.readiness = readiness or Readiness(engine)
    app.state.max_client_batch_size = max_client_batch_size
    app.state.adapter_loading = loading or AdapterLoading(engine=engine, root=None)
    app.router.routes += direct_routes(routers := _routers(engine, protocols))
    for router in routers:
        app.include_router(router)
    errors = ErrorResponder(protocols.values())
    complete_document(app, routers, errors)
    errors.install(app)
    bodies: dict[str, Any] = {"limit": payload_limit, "total_limit": payloads_limit, "timeout": body_timeout}
    app.add_middleware(BodyLimitMiddleware, **bodies, errors=errors)
    _add_middleware(app, errors, cors_origins=cors_origins, on_loopback=on_loopback, routers=routers)
    return app


def _empty_app() -> FastAPI:
    app = FastAPI(
        title="AdaMix",
        description="Many adapters on one base, in one batch.",
        lifespan=_lifespan,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
        docs_url=None,
        redoc_url=None,
    )
    add_docs_page(app)
    return app


def _routers(engine: Engine, protocols: Mapping[str, HttpProtocol]) -> list[APIRouter]:
    """Return the routers of the protocols that an engine is capable of."""
    offered = [one for one in protocols.values() if one.capability is None or one.capability in engine.capabilities]
    return [router for one in offered for router in one.routers]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine: Engine = app.state.engine
    await engine.start()
    try:
        yield
    finally:
        await engine.drain()


def direct_routes(routers: Iterable[APIRouter]) -> list[Route]:
    """Return routes to the functions that take a request and texts of its path, and return a response.

    They need nothing of FastAPI, whose routes only document them: found before these, they spare a third of the HTTP
    layer's time a request.
    """
    return [
        Route(route.path, _with_path(route), methods=list(route.methods or ()), include_in_schema=False)
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and _is_direct(route)
    ]


def _is_direct(route: APIRoute) -> bool:
    found = get_annotations(route.endpoint, eval_str=True)
    expected = {"request": Request, "return": Response, **dict.fromkeys(route.param_convertors, str)}
    return found == expected


def _with_path(route: APIRoute) -> Callable[[Request], Awaitable[Response]]:
    """Return the function of a route, called with the texts of a request's path."""
    if not route.param_convertors:
        endpoint: Callable[[Request], Awaitable[Response]] = route.endpoint
        return endpoint

    async def with_path(request: Request) -> Response:
        found: Response = await route.endpoint(request, **request.path_params)
        return found

    return with_path


def _add_middleware(
    app: FastAPI,
    errors: ErrorResponder,
    *,
    cors_origins: Sequence[str],
    on_loopback: bool,
    routers: Sequence[APIRouter],
) -> None:
    """Add the middleware around that of bodies, the innermost first."""
    app.state.error_responder, first_segments = errors, _first_segments(routers)
    app.add_middleware(ClientDeadlineMiddleware, errors=errors)
    app.add_middleware(ShutdownMiddleware, errors=errors, readiness=app.state.readiness)
    if app.state.api_keys is not None:
        open_paths = frozenset({"/metrics"} if app.state.metrics.options.are_open else ())
        app.add_middleware(ApiKeyMiddleware, keys=app.state.api_keys, errors=errors, open_paths=open_paths)
    app.add_middleware(OriginMiddleware, errors=errors, origins=cors_origins, on_loopback=on_loopback)
    app.add_middleware(PlainRequestMiddleware, errors=errors, first_segments=first_segments)
    app.add_middleware(RequestMetricsMiddleware, metrics=app.state.metrics)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=list(EXPOSED_HEADERS),
        )
    routes = [*app.routes, *(route for router in routers for route in router.routes)]
    app.add_middleware(
        RequestMiddleware, observer=app.state.observer, template=route_templates(routes), first_segments=first_segments
    )


def _first_segments(routers: Iterable[APIRouter]) -> frozenset[str]:
    """Return the first segments of the paths of routes and pages."""
    paths = [route.path for one in routers for route in one.routes if isinstance(route, APIRoute)]
    return frozenset(path.split("/")[1] for path in (*paths, *PAGES))
