"""What the studio keeps for each visitor: opened pictures and own attributes, bounded in number, memory and time."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from diffae.data.formats.metadata import ImageMetadata
from diffae.errors import DiffaeError
from diffae.latent.attributes import AttributeDirections
from diffae.latent.codes import Code

MOST_SESSIONS = 64
MOST_PICTURES = 256
"""Pictures of one visitor; the one that was not used for longest makes room."""
MOST_BYTES = 2**26
"""Of a visitor's pictures."""
IDLE_SECONDS = 3600.0
"""A visitor who has asked for nothing so long is forgotten."""


class NotKept(DiffaeError):
    """Something that the visitor names is no longer here."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image that a visitor works with, and its code; tensors are on the CPU."""

    name: str
    """Shown to the visitor alone; never a path here."""
    x: Tensor
    """(1, c, h, w) in [-1, 1]."""
    code: Code
    """Of this image; decoded with the studio's exact sampling it is `x`."""
    metadata: ImageMetadata | None = None
    """Of the visitor's file, so that the edited image can be of the same type."""
    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        tensors = (self.x, self.code.z_sem, self.code.x_T)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


class Session:
    """One visitor. Its id is a secret between the browser and the server."""

    def __init__(self, now: float) -> None:
        self.id = secrets.token_urlsafe(24)
        self.used = now
        self.attributes: AttributeDirections | None = None
        """The visitor's own."""
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, picture: Picture) -> Picture:
        """Keep a picture; those that were not used for longest make room. Returns it."""
        with self._lock:
            self._pictures[picture.id] = picture
            while len(self._pictures) > MOST_PICTURES or (len(self._pictures) > 1 and self.bytes > MOST_BYTES):
                self._pictures.popitem(last=False)
        return picture

    def picture(self, name: str) -> Picture:
        """The picture of this id.

        Raises:
            NotKept: it never was there, or has made room for others.
        """
        with self._lock:
            if name not in self._pictures:
                raise NotKept("this picture is no longer kept by the studio: open it again")
            self._pictures.move_to_end(name)
            return self._pictures[name]

    @property
    def bytes(self) -> int:
        """Memory that the pictures take."""
        return sum(picture.bytes for picture in self._pictures.values())


class Sessions:
    """The visitors, by the secret in their cookie."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def of(self, key: str | None) -> Session:
        """The session of a key, or a new one. Sessions that were idle for too long are forgotten."""
        with self._lock:
            now = self._clock()
            for known in [known for known, one in self._sessions.items() if now - one.used > IDLE_SECONDS]:
                del self._sessions[known]
            session = self._sessions.get(key or "")
            if session is None:
                session = Session(now)
                self._sessions[session.id] = session
            session.used = now
            self._sessions.move_to_end(session.id)
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
            return session
