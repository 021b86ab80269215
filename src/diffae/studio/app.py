"""The web application: the API of all rooms, the page, and what protects both."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    app.state.studio = studio
    for room in ROOMS:
        app.include_router(room.router)
    app.add_api_route("/", _page, include_in_schema=False)
    app.mount("/", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(DiffaeError, _refused)
    app.add_middleware(Guard, studio=studio, token=token)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


class Guard:
    """Asks for the token, finds the session, and adds the headers.

    Args:
        app: the application behind it.
        studio: whose sessions.
        token: what visitors must bring; None for visitors of this machine alone.
    """

    def __init__(self, app: ASGIApp, studio: Studio, token: str | None) -> None:
        self.app, self.studio, self.token = app, studio, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope)
        cookie = request.cookies.get(COOKIE)
        has_session = request.url.path == "/" or request.url.path.startswith("/api/")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if request.url.path.startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
                session = scope.get("state", {}).get("session")
                if session is not None and session.id != cookie:
                    headers.append("Set-Cookie", f"{COOKIE}={session.id}; HttpOnly; Path=/; SameSite=strict")
            await send(message)

        if (refused := self._refused(request)) is not None:
            return await refused(scope, receive, answer)
        if has_session:
            request.state.session = self.studio.sessions.of(cookie)
        return await self.app(scope, receive, answer)

    def _refused(self, request: Request) -> Response | None:
        """The answer to a request without the token, or that brings it."""
        if self.token is None:
            return None
        if _same(request.query_params.get("token", ""), self.token):
            response = RedirectResponse("/", 303)
            response.set_cookie(TOKEN_COOKIE, self.token, httponly=True, samesite="strict")
            return response
        if _same(request.cookies.get(TOKEN_COOKIE, ""), self.token):
            return None
        sentence = "this studio asks for a token: open the address that its terminal shows, which ends in ?token=..."
        return JSONResponse({"error": sentence}, 403)


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())


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
