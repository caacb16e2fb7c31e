"""The application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from backend.api.routes import router
from backend.api.settings import Settings
from backend.api.store import ModelStore, NotReady
from backend.api.telemetry import Metrics, MetricsMiddleware
from backend.core.version import VERSION, revision


async def not_ready(_: Request, error: Exception) -> JSONResponse:
    """Answer 503 with the reason; a client may try again."""
    return JSONResponse({"detail": str(error)}, 503, headers={"Retry-After": "10"})


def create_app(settings: Settings) -> FastAPI:
    """Build the application; models are loaded when it starts."""
    store, metrics = ModelStore(settings.model_dir), Metrics()
    metrics.build.labels(VERSION, revision()).set(1)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        store.load()
        yield

    app = FastAPI(title="Customer intelligence", version=VERSION, lifespan=lifespan)
    app.state.store, app.state.metrics = store, metrics
    app.include_router(router)
    app.add_exception_handler(NotReady, not_ready)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    return app
