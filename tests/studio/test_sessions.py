"""Sessions are separate, and bounded in number, memory and time."""

from __future__ import annotations

import pytest
import torch

from diffae.latent.codes import Code
from diffae.studio import sessions
from diffae.studio.sessions import NotKept, Picture, Session, Sessions


def picture(name: str = "a.png") -> Picture:
    return Picture(name, torch.zeros(1, 3, 4, 4), Code(torch.zeros(1, 6), torch.zeros(1, 3, 4, 4)))


def test_a_picture_is_its_sessions_alone() -> None:
    kept = Sessions()
    a, b = kept.of(None), kept.of("unknown")
    assert a.id != b.id
    held = a.keep(picture())
    assert kept.of(a.id).picture(held.id) is held
    with pytest.raises(NotKept):
        b.picture(held.id)


def test_the_oldest_pictures_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_PICTURES", 2)
    session = Session(0)
    first, second = session.keep(picture()), session.keep(picture())
    session.picture(first.id)
    third = session.keep(picture())
    assert session.picture(first.id)
    assert session.picture(third.id)
    with pytest.raises(NotKept, match="open it again"):
        session.picture(second.id)


def test_pictures_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    one = picture().bytes
    assert one == 4 * (48 + 48 + 6)
    monkeypatch.setattr(sessions, "MOST_BYTES", 3 * one)
    session = Session(0)
    for _ in range(9):
        session.keep(picture())
    assert session.bytes == 3 * one


def test_idle_sessions_are_forgotten() -> None:
    now = [0.0]
    kept = Sessions(lambda: now[0])
    session = kept.of(None)
    now[0] = sessions.IDLE_SECONDS - 1
    assert kept.of(session.id) is session
    now[0] += sessions.IDLE_SECONDS + 1
    assert kept.of(session.id) is not session
    assert len(kept) == 1


def test_sessions_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 3)
    kept = Sessions()
    found = [kept.of(None) for _ in range(5)]
    assert len(kept) == 3
    assert kept.of(found[-1].id) is found[-1]
