"""Running the studio: address, port and token."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable

from diffae.errors import ConfigError, require
from diffae.studio.app import LOCAL_NAMES, create_app
from diffae.studio.context import Studio

_KEEP_ALIVE = 30
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
    import uvicorn

    listening = bound_socket(host, port)
    token = None if is_local(host) else secrets.token_urlsafe(16)
    names = LOCAL_NAMES if token is None else ["*"]
    app = create_app(studio, token=token, hosts=names)
    config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=_KEEP_ALIVE, timeout_graceful_shutdown=2)
    shown = f"[{host}]" if ":" in host else host
    tell(f"http://{shown}:{listening.getsockname()[1]}/{f'?token={token}' if token else ''}")
    with listening:
        uvicorn.Server(config).run([listening])
