"""What a sender answers when it is asked what holds now. Never here: asking (``sources``), what follows from it (``service.asking``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """What holds now, as far as the sender could be read.

    Attributes:
        fires: What it would send of alerts that fire and that it means for us, by instance: each is a body, or a piece of one, in the sender's format.
        over: The same of alerts that we asked about and that it knows to be over; never concluded from a list that was not read completely.
        listed: How many alerts it named, whatever became of them.
        problems: What could not be read, and why, for people; empty when all was.
    """

    fires: Mapping[str, Any] = field(default_factory=dict)
    over: Mapping[str, Any] = field(default_factory=dict)
    listed: int = 0
    problems: tuple[str, ...] = ()
