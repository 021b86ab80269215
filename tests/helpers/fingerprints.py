"""Fingerprints that are chosen by a test."""

from __future__ import annotations

from diffae.checkpoint import Fingerprint
from diffae.config import ModelConfig


def mark(text: str) -> Fingerprint:
    """A fingerprint that reads `text` and matches nothing else."""
    found = str.__new__(Fingerprint, text)
    found.__init__(ModelConfig(), {})
    return found
