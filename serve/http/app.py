"""The application: an engine, what waits for it, and the routes of what it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from serve.classification.async_classifier import AsyncClassifier
from serve.generation.async_text_generator import AsyncGenerator
from serve.http import error_responses, health
from serve.http.middleware import AnswerAtTheEnd, CountRequests, PayloadLimit
from serve.http.openai import completions, models
from serve.http.tei import predict
from serve.telemetry.prometheus import METRICS

ROUTES: dict[type, list[APIRouter]] = {
    AsyncClassifier: [predict.router],
    AsyncGenerator: [completions.router, models.router],
}
"""By engine."""


def make_app(
    engine: AsyncClassifier | AsyncGenerator, *, max_client_rows: int = 64, payload_limit: int = 2_000_000
) -> FastAPI:
    """Return the application that serves an engine; it starts it on startup and drains it on shutdown."""
    metrics = METRICS[type(engine)](engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine:
            yield

    app = FastAPI(title="AdaMix", description="Many adapters on one base, in one batch.", lifespan=lifespan)
    app.state.engine, app.state.metrics = engine, metrics
    app.state.max_client_rows = max_client_rows
    for router in ROUTES[type(engine)]:
        app.include_router(router)
    app.include_router(health.router)
    error_responses.install(app)
    app.add_middleware(PayloadLimit, limit=payload_limit)
    app.add_middleware(AnswerAtTheEnd)
    app.add_middleware(CountRequests, metrics=metrics)
    return app
