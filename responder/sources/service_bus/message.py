"""What a message says, as plain values: its body as JSON and the key it is recognised by. Pure. Never here: the SDK, settling.

The decision a reader would question: the key is made from the message id *and* the body. Azure's own duplicate detection looks at the id
alone, but a sender whose ids begin anew after a restart would lose alerts by that; the same alert twice in other words changes nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from responder.model.errors import MalformedError

CLOUD_EVENTS = ("cloudevents:", "cloudevents_", "ce-", "ce_")
"""How attributes of a binary CloudEvent begin. Source: CloudEvents AMQP binding 3.1 (the first two); HTTP and Kafka relays copy theirs."""

DEAD_LETTER_REASON = "DeadLetterReason"
DEAD_LETTER_DESCRIPTION = "DeadLetterErrorDescription"
RESUBMITTED = "responder-resubmitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as received.

    Attributes:
        entity: The queue, or topic and subscription.
        body: Bytes of its data sections, or what a value section held.
        sequence: The broker's number for it; a redelivery keeps it, a message sent again has another.
        deliveries: How often it was delivered before this time.
        properties: Application properties; keys as sent.
    """

    entity: str
    body: Any
    sequence: int
    message_id: str = ""
    content_type: str = ""
    enqueued_at: datetime | None = None
    deliveries: int = 0
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return the name under which a redelivery or a sender's duplicate is known.

        A message that bears the broker's dead-letter properties while it is not in the dead-letter queue was sent again by a person's tool,
        maybe under its old id: it is a delivery of its own, recognised by its number.
        """
        digest = hashlib.blake2b(digest_size=16)
        own = f"#{self.sequence}@{self.enqueued_at}"
        digest.update((self.message_id or own).encode())
        digest.update(b"\xff" + (self.body if isinstance(self.body, bytes) else repr(self.body).encode()))
        if DEAD_LETTER_REASON in self.properties:
            digest.update(b"\xff" + own.encode())
        return f"{self.entity}/{digest.hexdigest()}"

    def json(self) -> bytes:
        """Return the body as JSON; a binary CloudEvent in its structured form.

        Raises:
            MalformedError: It is none, in words for the person who reads the dead-letter queue.
        """
        raw = self.body
        if isinstance(raw, str):
            raw = raw.encode()
        elif not isinstance(raw, bytes):
            raw = _encoded(raw)
        raw = raw.removeprefix(b"\xef\xbb\xbf")
        event = self._cloud_event()
        if event:
            return _encoded(event | _data(raw, self.content_type))
        if not raw.strip():
            raise MalformedError("the message has no body; send the alert or event as JSON")
        try:
            msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise MalformedError(f"the body is not JSON: {problem}; it begins {raw[:40]!r}") from problem
        return bytes(raw)

    def _cloud_event(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in self.properties.items():
            prefix = next((one for one in CLOUD_EVENTS if name.lower().startswith(one)), None)
            if prefix is not None:
                found[name[len(prefix) :]] = value if isinstance(value, (str, int, float, bool)) else str(value)
        if not {"type", "source", "id"} <= set(found) or self.content_type.lower().startswith("application/cloudevents"):
            return {}
        return {"specversion": "1.0", **found}


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as problem:
        raise MalformedError(f"the body is an AMQP value that JSON cannot hold: {problem}") from problem


def _data(raw: bytes, content_type: str) -> dict[str, Any]:
    if not raw:
        return {}
    try:
        return {"data": msgspec.json.decode(raw), "datacontenttype": content_type or "application/json"}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"data_base64": base64.b64encode(raw).decode(), "datacontenttype": content_type or "application/octet-stream"}
