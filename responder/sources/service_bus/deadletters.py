"""What a person does about messages in the dead-letter queue: list, show, send again. Used by the command line, beside a running service.

The decision a reader would question: a message is sent again as a copy under a new id made from its old one and its number. So sending it
twice (a crash between send and complete) is one delivery, and it is never taken for the duplicate of what it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from responder.model.errors import ContestedError
from responder.sources.service_bus.bus import Bus, Held, message_of, plain
from responder.sources.service_bus.message import DEAD_LETTER_DESCRIPTION, DEAD_LETTER_REASON, RESUBMITTED

PAGE = 100
MOST = 10_000
WAIT_SECONDS = 2.0
AT_ONCE = 10
"""So many are locked at once: their locks run while those before them are sent."""

MOST_LOST = 100
"""Lost locks after which it is given up: somebody else takes from the dead-letter queue too, or the broker is ill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was given up. ``body``: as text, whole."""

    sequence: int
    message_id: str
    reason: str
    description: str
    enqueued_at: datetime | None
    deliveries: int
    content_type: str
    properties: dict[str, Any]
    body: str


async def listed(bus: Bus, *, limit: int = PAGE, after: int = 0) -> list[DeadLetter]:
    """Return dead letters in their order, without locking them."""
    found: list[DeadLetter] = []
    async with bus.link(dead=True) as link:
        while len(found) < limit:
            page = await link.peek(min(PAGE, limit - len(found)), after=found[-1].sequence if found else after)
            if not page:
                break
            found += [_letter(one, bus.access.entity) for one in page]
    return found


async def resubmitted(
    bus: Bus, sequences: Sequence[int] | None, *, told: Callable[[DeadLetter], None] = lambda _letter: None
) -> list[DeadLetter]:
    """Send these dead letters (None: the first ``MOST`` there are now) again and take them out of the dead-letter queue; return those that were.

    Others are locked for a moment in passing and given back. A lock that is lost between sending and taking out brings the letter here once more; sent
    again under the same id it is the same delivery.

    Args:
        bus: Of the source.
        sequences: Which ones.
        told: Called for each that is done, since an error may end it half way.
    """
    wanted = {one.sequence for one in await listed(bus, limit=MOST)}
    wanted &= wanted if sequences is None else set(sequences)
    done: list[DeadLetter] = []
    passed: list[Held] = []
    async with bus.link(dead=True) as link, bus.client() as client, bus.sender(client) as send:
        tries = MOST_LOST
        while wanted and tries:
            batch = await link.receive(AT_ONCE, wait=WAIT_SECONDS)
            if not batch:
                break
            for held in batch:
                if held.message.sequence not in wanted:
                    passed.append(held)
                    continue
                message = held.message
                kept = {
                    name: value
                    for name, value in message.properties.items()
                    if name not in {DEAD_LETTER_REASON, DEAD_LETTER_DESCRIPTION}
                }
                again = f"{message.message_id or 'none'}~{message.sequence}"[-128:]
                await send(held.raw, again, {**kept, RESUBMITTED: str(message.sequence)})
                try:
                    await link.complete(held)
                except ContestedError:
                    tries -= 1
                    continue
                wanted.discard(message.sequence)
                done.append(_letter(held.raw, bus.access.entity))
                told(done[-1])
        for held in passed:
            with contextlib.suppress(ContestedError):  # its lock ran out meanwhile: it is back already
                await link.abandon(held)
    return done


def _letter(raw: Any, entity: str) -> DeadLetter:
    message = message_of(raw, entity)
    properties = dict(message.properties)
    body = message.body
    return DeadLetter(
        sequence=message.sequence,
        message_id=message.message_id,
        reason=str(properties.pop(DEAD_LETTER_REASON, "") or raw.dead_letter_reason or ""),
        description=str(properties.pop(DEAD_LETTER_DESCRIPTION, "") or raw.dead_letter_error_description or ""),
        enqueued_at=message.enqueued_at,
        deliveries=message.deliveries,
        content_type=message.content_type,
        properties=properties,
        body=body.decode("utf-8", "replace") if isinstance(body, bytes) else str(plain(body)),
    )
