"""The web application: a page, predictions as JSON, health and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

import imgcls
from imgcls.core.errors import ImgclsError
from imgcls.serving.answers import About, Answer, Health, Problem
from imgcls.serving.batching import Batcher, BusyError
from imgcls.serving.counters import Counters
from imgcls.serving.limits import Limits
from imgcls.serving.looking import Looker
from imgcls.serving.predicting import Desk
from imgcls.serving.served import Served
from imgcls.serving.uploads import BodyLimit, Refused, order_of

__all__ = ["create_app"]

#: The page may load nothing but itself.
_POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "threshold": {"type": "string", "description": "A fitted rule, or a number from 0 to 1."},
                        "map": {"type": "boolean", "default": False, "description": "Whether to draw relevance."},
                    },
                }
            }
        },
    }
}


def create_app(served: Served, limits: Limits | None = None, *, hosts: tuple[str, ...] = ("*",)) -> FastAPI:
    """Make the application.

    Args:
        served: The model.
        limits: How much it takes at a time.
        hosts: The names under which it may be called, so that a foreign page cannot reach it by a name of its own.

    Returns:
        The application; it ends its thread when it is shut down.
    """
    limits, counters = limits or Limits(), Counters()
    batcher = Batcher(
        Looker(served=served, limits=limits, predicted=counters.predicted),
        batch=limits.batch,
        waiting=limits.waiting,
        threads=served.at_a_time,
    )
    desk = Desk(served=served, batcher=batcher)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batcher.close)

    app = FastAPI(
        title=f"imgcls: {served.name}",
        version=imgcls.__version__,
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(BodyLimit, limit=int(limits.megabytes * 1e6))
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    _answer_errors(app)
    _add_pages(app, served, limits, batcher, counters)
    _add_prediction(app, desk, limits, counters)
    return app


def _add_prediction(app: FastAPI, desk: Desk, limits: Limits, counters: Counters) -> None:
    refusals: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (400, 413, 415, 422, 503)}

    @app.post("/api/predict", summary="Predict images", responses=refusals, openapi_extra=_FORM)
    async def predict(request: Request) -> Answer:
        began, status = time.perf_counter(), 500
        try:
            answer = await desk.answer(await order_of(request, limits))
            status = 200
        except (ImgclsError, AnyHTTPException) as error:
            status = _status(error)
            raise
        finally:
            counters.answered(status, time.perf_counter() - began)
        return answer


def _status(error: Exception) -> int:
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, BusyError):
        return 503
    return error.status_code if isinstance(error, AnyHTTPException) else 422


def _answer_errors(app: FastAPI) -> None:
    async def problem(_: Request, error: Exception) -> JSONResponse:
        text = str(error.detail) if isinstance(error, AnyHTTPException) else str(error)
        about = {"file": error.file} if isinstance(error, Refused) and error.file else {}
        headers = {"Retry-After": "1"} if isinstance(error, BusyError) else None
        return JSONResponse({"error": text, **about}, status_code=_status(error), headers=headers)

    app.add_exception_handler(ImgclsError, problem)
    app.add_exception_handler(AnyHTTPException, problem)


def _add_pages(app: FastAPI, served: Served, limits: Limits, batcher: Batcher[Any, Any], counters: Counters) -> None:
    page = resources.files("imgcls.serving").joinpath("page.html").read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    about = _about(served, limits)

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(status_code=204)

    @app.get("/api/model", summary="What is served")
    async def model() -> About:
        return about

    @app.get("/health", summary="Whether the server works", responses={503: {"model": Problem}})
    async def health() -> Health:
        if not batcher.alive:
            raise HTTPException(503, "the thread of the model has ended; start the server again")
        return Health(status="ok", model=served.name, uptime_seconds=counters.uptime)

    @app.get("/metrics", summary="What the server did, as Prometheus reads it", response_class=PlainTextResponse)
    async def metrics() -> str:
        return counters.text(waiting=batcher.waiting)


def _about(served: Served, limits: Limits) -> About:
    decider = served.decider
    cuts: dict[str, dict[str, float]] = {}
    for one in decider.thresholds:
        cuts.setdefault(one.rule, {})[one.class_name or str(decider.positive)] = one.value
    return About(
        name=served.name,
        kind=served.kind,
        version=imgcls.__version__,
        classes=list(decider.classes),
        positive=decider.positive,
        multilabel=decider.multilabel,
        decision=decider.decision,
        thresholds=cuts,
        size=list(served.image.size),
        channels=served.image.channels,
        guard=served.caution.guard is not None,
        sets_miss=None if served.caution.sets is None else served.caution.sets.alpha,
        abstains=served.caution.reject is not None,
        maps=served.draw is not None,
        max_images=limits.images,
        max_megabytes=limits.megabytes,
        max_megapixels=limits.megapixels,
    )
