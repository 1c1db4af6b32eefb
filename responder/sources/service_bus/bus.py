"""The only module that knows azure-servicebus and azure-identity: opens links, bounds every call, translates every error.

Never here: what is done with a message. Limits of the SDK (7.15) that shape this file are in azure.md 1.5; the numbers there are meant by
"pitfall". The SDK costs a second to import, so that happens in a thread, when the first link is opened.

The decision a reader would question: a call that outlasts even its bound is cancelled, a receive too, although that strands messages
until their locks run out (pitfall 4). It happens only to a link that is dead already, and that link is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from responder.loading import loaded
from responder.model.errors import ContestedError, ForbiddenError, GoneError, RejectedError, RemoteError, TransientError
from responder.sources.service_bus.message import Message

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusReceivedMessage

    Send = Callable[[ServiceBusReceivedMessage, str, dict[str, Any]], Awaitable[None]]
    from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver

SYSTEM = "service bus"
OPEN_SECONDS = 10.0
ANSWER_SECONDS = 8.0
DEAD_SECONDS = 45.0
CLOSE_SECONDS = 5.0
"""One attempt to open a link (pitfall 6); an answer to a settle or renewal; a link that is taken for dead; closing (pitfall 12)."""

LONGEST_REASON = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where a source's messages are and how we prove who we are. Fields as in ``settings.ServiceBusSettings``; secrets read."""

    queue: str = ""
    topic: str = ""
    subscription: str = ""
    connection_string: str = ""
    namespace: str = ""
    credential: str = "default"
    client_id: str = ""
    transport: str = "amqp"
    endpoint: str = ""
    ca_file: str = ""

    @property
    def entity(self) -> str:
        """Return the entity's path."""
        return self.queue or f"{self.topic}/Subscriptions/{self.subscription}"


@dataclass(slots=True, eq=False)
class Held:
    """A message that is locked for us. ``lock_seconds``: what was left of its lock when it was received or renewed."""

    message: Message
    lock_seconds: float
    raw: ServiceBusReceivedMessage


class Bus:
    """One source's credential and links."""

    def __init__(self, access: Access, *, credential: Any = None, shared: bool = False) -> None:
        """Make one; nothing is opened.

        Args:
            access: Where it is.
            credential: Who we are; None: as ``access`` says, made when it is needed.
            shared: Others use the credential too: it is not closed here.
        """
        self.access = access
        self._credential = credential
        self._shared = shared

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[ServiceBusClient]:
        """Open a client; nothing is sent yet."""
        logging.getLogger("azure").setLevel(logging.WARNING)
        logging.getLogger("azure.servicebus").setLevel(
            logging.CRITICAL
        )  # tracebacks of what is reported here anyway (pitfall 17)
        sdk = await loaded("azure.servicebus.aio")
        kinds = importlib.import_module("azure.servicebus").TransportType
        access = self.access
        options: dict[str, Any] = {
            "transport_type": kinds.AmqpOverWebsocket if access.transport == "websockets" else kinds.Amqp,
            "retry_total": 2,
            "retry_backoff_factor": 0.2,
            "retry_backoff_max": 2,
            "try_timeout": OPEN_SECONDS,
            "auth_timeout": OPEN_SECONDS,
            "user_agent": "responder",
        }
        if access.endpoint:
            options["custom_endpoint_address"] = access.endpoint
        if access.ca_file:
            options["connection_verify"] = access.ca_file
        try:
            if access.connection_string:
                client: ServiceBusClient = sdk.ServiceBusClient.from_connection_string(access.connection_string, **options)
            else:
                client = sdk.ServiceBusClient(access.namespace, await self._identity(), **options)
        except ValueError as error:
            what = "connection string" if access.connection_string else "identity"
            raise RejectedError(
                f"the {what} cannot be used: {error}", system=SYSTEM, operation="connect to", target=access.entity
            ) from error
        try:
            yield client
        finally:
            with contextlib.suppress(TimeoutError, Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await client.close()

    async def _identity(self) -> Any:
        if self._credential is None:
            identity = await loaded("azure.identity.aio")
            given = {"client_id": self.access.client_id} if self.access.client_id else {}
            if self.access.credential == "workload_identity":
                self._credential = identity.WorkloadIdentityCredential(**given)
            else:
                named = {"managed_identity_client_id": self.access.client_id} if self.access.client_id else {}
                self._credential = identity.DefaultAzureCredential(**named)
        return self._credential

    @contextlib.asynccontextmanager
    async def link(self, *, dead: bool = False) -> AsyncIterator[Link]:
        """Open a receiver of the entity, or of its dead-letter queue; closed with a bound, whatever state it is in."""
        async with self.client() as client:
            # Locks run while messages wait in a buffer (pitfall 9); a receiver does not inherit its client's bound on answers.
            options: dict[str, Any] = {"prefetch_count": 0, "timeout": ANSWER_SECONDS}
            if dead:
                options["sub_queue"] = importlib.import_module("azure.servicebus").ServiceBusSubQueue.DEAD_LETTER
            access = self.access
            if access.queue:
                receiver = client.get_queue_receiver(access.queue, **options)
            else:
                receiver = client.get_subscription_receiver(access.topic, access.subscription, **options)
            link = Link(receiver, access.entity)
            try:
                await link.open()
                yield link
            finally:
                with contextlib.suppress(TimeoutError, Exception):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await receiver.close()

    @contextlib.asynccontextmanager
    async def sender(self, client: ServiceBusClient) -> AsyncIterator[Send]:
        """Give what sends a copy of a message under a new id to the queue, or to the topic and so to all its subscriptions.

        One connection for all that is sent (pitfall 15), and exactly one task may send (pitfall 1).
        """
        sdk = importlib.import_module("azure.servicebus")
        target = self.access.queue or self.access.topic
        sender = client.get_queue_sender(target) if self.access.queue else client.get_topic_sender(target)

        async def send(raw: ServiceBusReceivedMessage, message_id: str, properties: dict[str, Any]) -> None:
            copy = sdk.ServiceBusMessage(
                bytes_of(raw),
                message_id=message_id,
                content_type=raw.content_type,
                subject=raw.subject,
                correlation_id=raw.correlation_id,
                application_properties=properties,
            )
            with translated("send to", target):
                async with asyncio.timeout(DEAD_SECONDS):
                    await sender.send_messages(copy, timeout=OPEN_SECONDS)

        try:
            yield send
        finally:
            with contextlib.suppress(TimeoutError, Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await sender.close()

    async def close(self) -> None:
        """Release the credential, unless it is shared; idempotent."""
        if self._shared:
            return
        credential, self._credential = self._credential, None
        if credential is not None:
            with contextlib.suppress(Exception):
                await credential.close()


class Link:
    """A receiver. Exactly one task may call it (pitfall 1).

    Attributes:
        proven: The last receive went through. Opening alone proves nothing: the broker grants a link first and refuses it a moment later.
    """

    def __init__(self, receiver: ServiceBusReceiver, entity: str) -> None:
        self._receiver = receiver
        self._entity = entity
        self.proven = False

    async def open(self) -> None:
        """Open, or open again what broke: a short receive has no time for it. What is held can be settled through the new link."""
        with translated("open", self._entity):
            async with asyncio.timeout(DEAD_SECONDS):
                await self._receiver.__aenter__()

    async def receive(self, most: int, *, wait: float) -> Sequence[Held]:
        """Receive up to ``most`` messages, waiting ``wait`` seconds for the first; a link that worked and broke is opened again, once."""
        try:
            with translated("receive from", self._entity):
                async with asyncio.timeout(DEAD_SECONDS):
                    found = await self._receiver.receive_messages(max_message_count=most, max_wait_time=wait)
        except TransientError:
            if not self.proven:
                raise
            self.proven = False
            await self.open()
            return []
        self.proven = True
        return [Held(message_of(one, self._entity), _left(one.locked_until_utc), one) for one in found]

    async def peek(self, most: int, *, after: int) -> Sequence[ServiceBusReceivedMessage]:
        """Look at messages without locking them, from sequence number ``after`` + 1 on."""
        with translated("look into", self._entity):
            async with asyncio.timeout(DEAD_SECONDS):
                return await self._receiver.peek_messages(most, sequence_number=after + 1, timeout=OPEN_SECONDS)

    async def renew(self, held: Held) -> None:
        """Renew a lock.

        Raises:
            ContestedError: It was lost.
        """
        with translated("renew a lock of", self._entity):
            async with asyncio.timeout(DEAD_SECONDS):
                until = await self._receiver.renew_message_lock(held.raw, timeout=ANSWER_SECONDS)
        held.lock_seconds = _left(until)

    async def complete(self, held: Held) -> None:
        """Complete.

        Raises:
            ContestedError: The lock was lost; the broker delivers it again.
        """
        with translated("complete a message of", self._entity):
            async with asyncio.timeout(DEAD_SECONDS):
                await self._receiver.complete_message(held.raw)

    async def abandon(self, held: Held) -> None:
        """Give it back; its delivery count grows."""
        with translated("abandon a message of", self._entity):
            async with asyncio.timeout(DEAD_SECONDS):
                await self._receiver.abandon_message(held.raw)

    async def dead_letter(self, held: Held, *, reason: str, description: str) -> None:
        """Move it to the dead-letter queue."""
        with translated("dead-letter a message of", self._entity):
            async with asyncio.timeout(DEAD_SECONDS):
                await self._receiver.dead_letter_message(
                    held.raw, reason=reason[:LONGEST_REASON], error_description=description[:LONGEST_REASON]
                )


@contextlib.contextmanager
def translated(operation: str, target: str) -> Any:
    """Turn whatever the SDK raises into our errors."""
    try:
        yield
    except RemoteError:
        raise
    except Exception as error:
        raise _translation(error, operation, target) from error


def _translation(error: Exception, operation: str, target: str) -> RemoteError:
    """Every exception means a new link; which one it is decides only what people read (pitfalls 5 and 8)."""
    name = type(error).__name__
    said = " ".join(str(error).split()) or name
    where: Any = {"system": SYSTEM, "operation": operation, "target": target}
    if name in {"MessageLockLostError", "MessageAlreadySettled", "SessionLockLostError"}:
        return ContestedError(said, **where)
    if name in {
        "ServiceBusAuthenticationError",
        "ServiceBusAuthorizationError",
        "ClientAuthenticationError",
        "CredentialUnavailableError",
    }:
        advice = "check the key, or give our identity the role Azure Service Bus Data Receiver (Data Sender too, to resubmit)"
        return ForbiddenError(f"{said}; {advice}", **where)
    if name == "MessagingEntityNotFoundError":
        return GoneError(f"{said}; create it, or correct queue, topic and subscription under sources:", **where)
    if "requires sessions" in said:
        advice = "sessions are not supported: receive from a queue or subscription without them (requires-session cannot be changed, make a new one)"
        return RejectedError(f"{said}; {advice}", **where)
    if isinstance(error, TimeoutError):
        said = f"no answer in time ({said})"
    if "amqp:socket-error" in said:
        said += " Check namespace and network: port 5671, or 443 with transport: websockets"
    return TransientError(said, **where)


def _left(until: datetime | None) -> float:
    return (until - datetime.now(tz=UTC)).total_seconds() if until is not None else 0.0


def bytes_of(raw: ServiceBusReceivedMessage) -> Any:
    """Return the body: the bytes of data sections, or the value."""
    body: Any = raw.body
    if isinstance(body, (bytes, str, dict, int, float)) or body is None:
        return body or b""
    parts = list(body)
    return b"".join(parts) if all(isinstance(one, bytes) for one in parts) else parts


def plain(value: Any) -> Any:
    """Return AMQP's bytes (it has no strings in some places) as text, in containers too."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {str(plain(name)): plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def message_of(raw: ServiceBusReceivedMessage, entity: str) -> Message:
    """Return a message as a plain value."""
    body = bytes_of(raw)
    return Message(
        entity=entity.lower(),
        body=body if isinstance(body, bytes) else plain(body),
        sequence=raw.sequence_number or 0,
        message_id=raw.message_id or "",
        content_type=raw.content_type or "",
        enqueued_at=raw.enqueued_time_utc,
        deliveries=raw.delivery_count or 0,
        properties=plain(dict(raw.application_properties or {})),
    )
