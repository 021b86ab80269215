"""The web application: the API of all rooms, the page, and what protects both."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from diffae.deprecation import __version__
from diffae.errors import DiffaeError
from diffae.studio.context import Studio
from diffae.studio.rooms import blend, directions, edit, keeping, map, sample, start, training, vary
from diffae.studio.visits import COOKIE, failed, pool

ROOMS = (start, edit, blend, vary, sample, map, directions, keeping, training)
STATIC = Path(str(files("diffae.studio"))) / "static"
TOKEN_COOKIE = "diffae_token"
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]", "testserver")

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "media-src 'self' blob:",
            "connect-src 'self'",
            "font-src 'self'",
            "manifest-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""Sent with every response. Scripts and styles come from this server alone, and none is inline."""


def create_app(studio: Studio, *, token: str | None = None, hosts: Sequence[str] = LOCAL_NAMES) -> FastAPI:
    """The application.

    Args:
        studio: what is served.
        token: a secret that visitors must bring once, as `/?token=`; None for visitors of this machine alone.
        hosts: names that requests may be addressed to, which keeps pages of other sites out.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        studio.start()
        with pool() as app.state.pool:
            yield
            studio.close()

    app = FastAPI(
        title="diffae studio", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json",
        description="Everything that the page does, for scripts. Keep the cookie of the first answer: it is your "
        "session. Long requests that accept application/x-ndjson get lines of progress.",
    )  # fmt: skip
    app.state.studio, app.state.token = studio, token
    for room in ROOMS:
        app.include_router(room.router)
    app.add_api_route("/", _page, include_in_schema=False)
    app.mount("/", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(DiffaeError, _refused)
    app.middleware("http")(_guarded)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


async def _guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Ask for the token, find the session, and add the headers."""
    token = request.app.state.token
    given = request.query_params.get("token", "")
    if token and given and secrets.compare_digest(given.encode(), token.encode()):
        response: Response = RedirectResponse("/", 303)
        response.set_cookie(TOKEN_COOKIE, token, httponly=True, samesite="strict")
    elif token and not secrets.compare_digest(request.cookies.get(TOKEN_COOKIE, "").encode(), token.encode()):
        sentence = "this studio asks for a token: open the address that its terminal shows, which ends in ?token=..."
        response = JSONResponse({"error": sentence}, 403)
    elif request.url.path == "/" or request.url.path.startswith("/api/"):
        session = request.app.state.studio.sessions.of(request.cookies.get(COOKIE))
        request.state.session = session
        response = await call_next(request)
        if request.cookies.get(COOKIE) != session.id:
            response.set_cookie(COOKIE, session.id, httponly=True, samesite="strict")
    else:
        response = await call_next(request)
    response.headers.update(HEADERS)
    if request.url.path.startswith("/api/"):
        response.headers.setdefault("Cache-Control", "no-store")
    return response


async def _page() -> Response:
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def _invalid(request: Request, error: Exception) -> Response:
    """A request that does not follow the API, as a sentence."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    return JSONResponse({"error": f"{where}: {first['msg'][:200]}; see /api/openapi.json"}, 422)


async def _refused(request: Request, error: Exception) -> Response:
    return failed(error)
