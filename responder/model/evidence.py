"""Evidence: what was seen, kept byte for byte, before anything was done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceItem:
    """One thing seen.

    Attributes:
        name: Unique in its capture, such as ``logs/api-7d4f9-x2x/api/previous`` or ``object/Deployment/api``.
        media_type: ``text/plain``, ``application/json``.
        content: Exactly the bytes read, secrets already redacted, at most 1 MiB.
        truncated: More was there.
        problem: Why it could not be read; content is then empty. Evidence never fails the ladder.
    """

    name: str
    media_type: str = "text/plain"
    content: bytes = b""
    truncated: bool = False
    taken_at: datetime
    problem: str = ""
