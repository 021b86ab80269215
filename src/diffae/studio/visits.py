"""One request of one visitor: who it is, work in a thread with progress, and errors as plain sentences."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from diffae.errors import DiffaeError
from diffae.studio.context import Studio
from diffae.studio.engine import Busy, Cancelled, Ticket
from diffae.studio.gallery import NotReady
from diffae.studio.sessions import NotKept, Session

COOKIE = "diffae_session"
PROGRESS = "application/x-ndjson"
"""A request that accepts this type gets lines of JSON: {"progress": 0.4}, ..., at last {"result"} or {"error"}."""

_POLL_SECONDS = 0.1
_THREADS = 128
_log = logging.getLogger(__name__)

Work = Callable[[Ticket], BaseModel | Response]


def pool() -> ThreadPoolExecutor:
    """Threads that wait for the networks, one for each request in work."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="visit")


def explained(error: BaseException) -> tuple[int, str]:
    """The status and the sentence for an error."""
    if isinstance(error, NotKept):
        return 404, str(error)
    if isinstance(error, NotReady):
        return 409, str(error)
    if isinstance(error, DiffaeError):
        return 422, str(error)
    if isinstance(error, Busy):
        return 503, "the studio has too much to do at the moment: try again in a minute"
    if isinstance(error, Cancelled):
        return 499, "cancelled"
    _log.error("unexpected error in the studio", exc_info=error)
    return 500, f"something went wrong in the studio ({type(error).__name__}); its terminal says more"


def failed(error: BaseException) -> JSONResponse:
    """The response for an error."""
    status, sentence = explained(error)
    return JSONResponse({"error": sentence}, status)


class Visit:
    """One request of one visitor."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.studio: Studio = request.app.state.studio
        self.session: Session = request.state.session

    async def run(self, work: Work) -> Response:
        """Do the work in a thread; it is cancelled when the browser no longer waits.

        Args:
            work: gets a ticket, and returns the answer or a whole response.
        """
        reports: asyncio.Queue[float] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def report(share: float) -> None:
            loop.call_soon_threadsafe(reports.put_nowait, share)

        ticket = Ticket(self.session.id, report)
        future = loop.run_in_executor(self.request.app.state.pool, work, ticket)
        if PROGRESS in self.request.headers.get("accept", ""):
            return StreamingResponse(self._lines(future, ticket, reports), media_type=PROGRESS)
        try:
            while not (await asyncio.wait([future], timeout=_POLL_SECONDS))[0]:
                if await self.request.is_disconnected():
                    ticket.cancel()
            answer = future.result()
        except Exception as error:
            return failed(error)
        finally:
            ticket.cancel()
        return answer if isinstance(answer, Response) else JSONResponse(answer.model_dump())

    async def _lines(
        self, future: asyncio.Future[Any], ticket: Ticket, reports: asyncio.Queue[float]
    ) -> AsyncIterator[str]:
        try:
            while not (await asyncio.wait([future], timeout=_POLL_SECONDS))[0]:
                share = None
                while not reports.empty():
                    share = reports.get_nowait()
                if share is not None:
                    yield json.dumps({"progress": share}) + "\n"
            yield json.dumps({"result": future.result().model_dump()}) + "\n"
        except Exception as error:
            yield json.dumps({"error": explained(error)[1]}) + "\n"
        finally:
            ticket.cancel()


VisitDep = Annotated[Visit, Depends(Visit)]
"""The visit, as an argument of an endpoint."""
