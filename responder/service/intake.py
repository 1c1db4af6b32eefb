"""Takes a delivery in: bounded, durable before it is acknowledged, and asks no cluster.

Never here: HTTP (``http``, ``web``), understanding the body (``router``). One decision a reader would question: a body that is
not valid JSON is refused here although everything else is accepted unseen. A sender that posts no JSON is misconfigured and must hear it;
valid JSON of any shape is kept, because a 4xx is never repeated by Azure Monitor and the alert would be lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import msgspec

from responder.model.errors import IntakeFullError, MalformedError, OversizeError
from responder.model.storing import Delivery, NewDelivery
from responder.ports import Clock, Store
from responder.service.backlog import Backlog
from responder.service.handing import HELD, Handing

ABSORB = timedelta(minutes=10)
"""A retry within the same ten minutes is absorbed; a later repeat is a delivery of its own. Source: ARCHITECTURE.md, ``deliveries``."""


_NOT = timedelta(0)
_IS_JSON = msgspec.json.Decoder(msgspec.Raw).decode
"""Looks through a body without making anything of it: a quarter of what reading it costs."""


class Intake:
    """Accepts deliveries.

    Attributes:
        largest: Bytes of the largest body taken.
        most_waiting: Deliveries being stored at once before senders are told to come back.
        backlog: Those that are stored and wait to be routed, with the most that may.
        handing: The way to the router of this process; None where the store is the only one.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        largest: int = 1 << 20,
        most_waiting: int = 500,
        absorb: timedelta = ABSORB,
        backlog: Backlog | None = None,
        ahead: Callable[[NewDelivery], None] | None = None,
        handing: Handing | None = None,
    ) -> None:
        """Take where deliveries go.

        Args:
            store: Ours.
            clock: Ours.
            largest: See the class.
            most_waiting: See the class.
            absorb: How long a sender's retry counts as one.
            backlog: See the class.
            ahead: Told of a delivery that comes alone, before it is stored.
            handing: See the class.
        """
        self._ahead = ahead
        self._bucket_seconds = max(1, int(absorb.total_seconds()))
        self._store = store
        self._clock = clock
        self.largest = largest
        self.most_waiting = most_waiting
        self.backlog = backlog or Backlog()
        self.handing = handing
        self._waiting = 0

    async def accept(
        self,
        *,
        source: str,
        source_name: str,
        body: bytes,
        sender: str = "",
        headers: Mapping[str, str] | None = None,
        key: str = "",
    ) -> bool:
        """Store one delivery and return True, or False when it is a sender's retry of one already stored.

        Args:
            source: The format, such as ``alertmanager``.
            source_name: The configured sender.
            body: As received.
            sender: Who proved to be the sender.
            headers: Lower-cased; a sender's own message id is used for the retry key when it has one.
            key: The sender's name for this very delivery, which it never gives to another; "" when it has none. A repeat under it is
                absorbed however late it comes and whatever came between.

        Raises:
            OversizeError: Larger than ``largest``.
            MalformedError: Not JSON.
            IntakeFullError: Too much is being stored already, or waits to be routed.
            StoreUnavailableError: The store cannot be written now.
        """
        if len(body) > self.largest:
            raise OversizeError(f"the body has {len(body)} bytes; at most {self.largest} are taken")
        try:
            body.decode()
            _IS_JSON(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise MalformedError(f"the body is not JSON: {problem}") from problem
        if self._waiting >= self.most_waiting:
            raise IntakeFullError(f"{self._waiting} deliveries are being stored already; come back")
        if self.backlog.full:
            raise IntakeFullError(f"{self.backlog.waiting} deliveries wait to be routed already; come back")
        now = self._clock.now()
        retry_key = f"{source}/{source_name}/{key}" if key else self._retry_key(now, source, source_name, body, headers or {})
        handing = self.handing if self.handing is not None and self.handing.reserve(len(body)) else None
        delivery = NewDelivery(
            source=source,
            source_name=source_name,
            retry_key=retry_key,
            unique=bool(key),
            body=body,
            received_at=now,
            sender=sender,
            held=_NOT if handing is None else HELD,
        )
        self._waiting += 1
        try:
            if self._ahead is not None and self._waiting == 1 and not self.backlog.waiting:
                self._ahead(delivery)
            stored = await (self._stored(delivery) if handing is None else self._handed(delivery, handing))
        finally:
            self._waiting -= 1
        if stored:
            self.backlog.came()
        return stored

    async def _stored(self, delivery: NewDelivery) -> bool:
        (stored,) = await self._store.accept([delivery])
        return stored

    async def _handed(self, delivery: NewDelivery, handing: Handing) -> bool:
        """Store a delivery and hand it to the router; room has been taken for it."""
        kept: Delivery | None = None
        try:
            kept = await self._store.accept_held(delivery)
        finally:
            if kept is None:
                handing.free(len(delivery.body))
        if kept is None:
            return False
        handing.put(kept)
        return True

    def _retry_key(self, now: datetime, source: str, source_name: str, body: bytes, headers: Mapping[str, str]) -> str:
        message = headers.get("x-responder-message-id", "")
        bucket = int(now.timestamp()) // self._bucket_seconds
        digest = hashlib.blake2b(message.encode() or body, digest_size=16).hexdigest()
        return f"{source}/{source_name}/{bucket}/{digest}"
