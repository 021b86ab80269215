"""Running the studio: address, port and token."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from diffae.errors import ConfigError, require
from diffae.studio.app import LOCAL_NAMES, create_app
from diffae.studio.context import Studio

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

_KEEP_ALIVE, _PATIENCE = 30, 2  # seconds
_LARGEST_PORT = 65535


def is_local(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 takes a free one.

    Raises:
        ConfigError: the port is in use, not allowed, or the address is not one of this machine.
    """
    require(0 <= port <= _LARGEST_PORT, "port", port, f"must lie in 0..{_LARGEST_PORT}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"port is {port}: {host} cannot listen there ({error.strerror or error}); choose another --port"
        ) from None
    return listening


def serve(studio: Studio, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        studio: what is served.
        host: address to listen on. Visitors of another machine need the token in the address that is told.
        port: port to listen on, 0 for a free one.
        tell: called with the address of the page.
    Raises:
        ConfigError: the port is in use.
    """
    listening = bound_socket(host, port)
    token = None if is_local(host) else secrets.token_urlsafe(16)
    names = LOCAL_NAMES if token is None else ["*"]
    app = create_app(studio, token=token, hosts=names)
    shown = f"[{host}]" if ":" in host else host
    tell(f"http://{shown}:{listening.getsockname()[1]}/{f'?token={token}' if token else ''}")
    with listening:
        server_of(app).run([listening])


def server_of(app: FastAPI) -> uvicorn.Server:
    """A server of the application; `run` it with a socket."""
    import uvicorn

    how = {"timeout_keep_alive": _KEEP_ALIVE, "timeout_graceful_shutdown": _PATIENCE, "ws": "none"}
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", **how))
