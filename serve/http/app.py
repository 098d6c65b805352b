"""The application: an engine, what waits for it, and the routes of what it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from serve.http import completions, errors, predict, status
from serve.http.limits import AnswerAtTheEnd, CountRequests, PayloadLimit
from serve.http.metrics import METRICS
from serve.live import AsyncClassifier, AsyncGenerator

ROUTES: dict[type, APIRouter] = {AsyncClassifier: predict.router, AsyncGenerator: completions.router}
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
    app.include_router(ROUTES[type(engine)])
    app.include_router(status.router)
    errors.install(app)
    app.add_middleware(PayloadLimit, limit=payload_limit)
    app.add_middleware(AnswerAtTheEnd)
    app.add_middleware(CountRequests, metrics=metrics)
    return app
