"""The application: an engine, a queue before it, and the routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from serve.classify import Classifier
from serve.http import errors, predict, status
from serve.http.limits import CountRequests, PayloadLimit
from serve.http.metrics import Metrics
from serve.live import AsyncClassifier
from serve.scheduler import Limits


def make_app(
    classifier: Classifier, limits: Limits, *, max_client_rows: int = 64, payload_limit: int = 2_000_000
) -> FastAPI:
    """Return the application that serves `classifier`; it starts its queue on startup and drains it on shutdown."""
    engine = AsyncClassifier(classifier, limits)
    metrics = Metrics(engine)
    engine.batcher.on_batch = metrics.batch

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine:
            yield

    app = FastAPI(title="AdaMix", description="Many adapters on one base, in one batch.", lifespan=lifespan)
    app.state.engine, app.state.metrics = engine, metrics
    app.state.max_client_rows = max_client_rows
    app.include_router(predict.router)
    app.include_router(status.router)
    errors.install(app)
    app.add_middleware(PayloadLimit, limit=payload_limit)
    app.add_middleware(CountRequests, metrics=metrics)
    return app
