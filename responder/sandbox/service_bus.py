"""A Service Bus broker: queues, subscriptions, locks, dead letters, management; and everything that can go wrong with them.

It speaks AMQP 1.0 on loopback to the unmodified SDK, plain, over TLS or over websockets. Strict where the specification is: a client that
numbers its deliveries wrongly, as two tasks on one link do, loses its connection. Source: azure.md 1.3.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import WSMsgType, web

from responder.http.server import stop_serving
from responder.sandbox.amqp import (
    Described,
    Int,
    Raw,
    Stamp,
    Symbol,
    Symbols,
    UByte,
    UInt,
    UShort,
    encode,
    fields,
    frame,
    sections,
)

LOCK_LOST = "com.microsoft:message-lock-lost"
FOREVER = 1 << 30


@dataclass(eq=False)
class Stored:
    """A message in the broker. ``inner``: its properties section; ``body``: its body sections; both as sent."""

    sequence: int
    inner: bytes
    body: bytes
    app: dict[str, Any]
    message_id: str = ""
    deliveries: int = 0
    at: int = 0

    def wire(self, until: float) -> bytes:
        """Return it as it is delivered, locked until then (seconds since 1970)."""
        notes = {
            Symbol("x-opt-sequence-number"): self.sequence,
            Symbol("x-opt-enqueued-time"): Stamp(self.at),
            Symbol("x-opt-locked-until"): Stamp(int(until * 1000)),
        }
        app = encode(Described(0x74, self.app)) if self.app else b""
        return (
            encode(Described(0x70, [True, UByte(4), None, False, UInt(self.deliveries)]))
            + encode(Described(0x72, notes))
            + self.inner
            + app
            + self.body
        )


@dataclass(eq=False)
class Entity:
    """A queue, a subscription, or the dead letters of one. ``sessions``: takes no receiver without one."""

    name: str
    sessions: bool = False
    lock_seconds: float = 30.0
    most_deliveries: int = 10
    dead: Entity | None = None
    ready: deque[Stored] = field(default_factory=deque)
    locked: dict[uuid.UUID, tuple[Stored, float]] = field(default_factory=dict)
    links: list[Out] = field(default_factory=list)
    completed: Counter[str] = field(default_factory=Counter)
    abandoned: int = 0
    expired: int = 0
    renewed: int = 0
    sequence: int = 0

    def give_back(self, token: uuid.UUID, *, count: bool) -> None:
        """Free a locked message; ``count``: as a failed delivery, of which ``most_deliveries`` bury it."""
        one, _ = self.locked.pop(token)
        one.deliveries += count
        if count and self.dead is not None and one.deliveries >= self.most_deliveries:
            self.bury(one, "MaxDeliveryCountExceeded", f"Message could not be consumed after {one.deliveries} delivery attempts.")
        else:
            self.ready.append(one)
        self.pump()

    def bury(self, one: Stored, reason: str, description: str) -> None:
        """Move a message to the dead letters."""
        assert self.dead is not None
        one.app = {**one.app, "DeadLetterReason": reason, "DeadLetterErrorDescription": description}
        one.deliveries = 0
        self.dead.ready.append(one)

    def expire(self, *, everything: bool = False) -> None:
        """Give back what is locked for too long, or everything."""
        for token in [token for token, (_, until) in self.locked.items() if everything or until <= time.time()]:
            self.expired += 1
            self.give_back(token, count=True)

    def pump(self) -> None:
        """Deliver to links that have credit."""
        for link in self.links:
            while link.credit > 0 and self.ready:
                one = self.ready.popleft()
                token = uuid.uuid4()
                until = time.time() + self.lock_seconds
                self.locked[token] = (one, until)
                link.deliver(token, one.wire(until))

    @property
    def waiting(self) -> int:
        """Count messages that are neither completed nor dead."""
        return len(self.ready) + len(self.locked)


@dataclass(eq=False)
class Out:
    """A link that we send on."""

    peer: Peer
    channel: int
    handle: int
    entity: Entity | None
    credit: int = 0
    count: int = 0

    def deliver(self, token: uuid.UUID, payload: bytes, *, settled: bool = False) -> None:
        """Send a message in as many frames as it needs."""
        self.credit -= 1
        self.count += 1
        number = self.peer.next_delivery[self.channel]
        self.peer.next_delivery[self.channel] += 1
        if not settled and self.entity is not None:
            self.peer.unsettled[self.channel, number] = (self.entity, token)
        room = self.peer.largest - 200
        pieces = [payload[at : at + room] for at in range(0, len(payload), room)] or [b""]
        for place, piece in enumerate(pieces):
            more = place < len(pieces) - 1
            self.peer.send(self.channel, 0x14, [UInt(self.handle), UInt(number), token.bytes_le, UInt(0), settled, more], piece)


class Peer:
    """One connection, free of I/O: bytes in through ``feed``, bytes out through ``write``."""

    def __init__(self, broker: Broker, write: Callable[[bytes], None], close: Callable[[], None]) -> None:
        self.broker, self._write, self.close = broker, write, close
        self.buffer = bytearray()
        self.header_due = True
        self.largest = 65536
        self.next_delivery: Counter[int] = Counter()
        self.expected: dict[int, int] = {}
        self.unsettled: dict[tuple[int, int], tuple[Entity, uuid.UUID]] = {}
        self.ins: dict[tuple[int, int], list[Any]] = {}
        self.outs: dict[tuple[int, int], Out] = {}
        self.replies: dict[tuple[int, str], Out] = {}
        self.partial: dict[tuple[int, int], bytearray] = {}
        self.authorised = False

    def write(self, data: bytes) -> None:
        """Send bytes, unless the broker is silent."""
        if not self.broker.silent:
            self._write(data)

    def send(self, channel: int, code: int, values: list[Any], payload: bytes = b"") -> None:
        """Send a performative."""
        self.write(frame(channel, code, values, payload))

    def lost(self) -> None:
        """Forget the links; locks go on, as in the service."""
        for out in self.outs.values():
            if out.entity is not None and out in out.entity.links:
                out.entity.links.remove(out)
        self.broker.peers.discard(self)

    def feed(self, data: bytes) -> None:
        """Take bytes in."""
        self.buffer += data
        while len(self.buffer) >= 8:
            if self.header_due or self.buffer[:4] == b"AMQP":
                header = bytes(self.buffer[:8])
                del self.buffer[:8]
                self.header_due = False
                self.write(header)
                if header[4] == 3:
                    self.write(frame(0, 0x40, [Symbols(["ANONYMOUS"])], sasl=True))
                continue
            size = struct.unpack_from(">I", self.buffer)[0]
            if len(self.buffer) < size:
                return
            one = bytes(self.buffer[:size])
            del self.buffer[:size]
            body = one[one[4] * 4 :]
            if not body:
                continue
            code, values, raws, payload = fields(body)
            if code == 0x41:
                self.write(frame(0, 0x44, [UByte(0), None], sasl=True))
            else:
                self.performative(struct.unpack_from(">H", one, 6)[0], code, [*values, *[None] * 14], raws, payload)

    def fail(self, condition: str, said: str) -> None:
        """Close the connection with a condition."""
        self.send(0, 0x18, [Described(0x1D, [Symbol(condition), said, {Symbol("tracking-id"): "t"}])])
        self.close()

    def performative(self, channel: int, code: int, values: list[Any], raws: list[bytes], payload: bytes) -> None:
        """Take one frame."""
        match code:
            case 0x10:
                self.largest = min(65536, values[2] or 65536)
                self.send(0, 0x10, ["broker", None, UInt(65536), UShort(255)])
            case 0x11:
                self.expected[channel] = values[1]
                self.send(channel, 0x11, [UShort(channel), UInt(0), UInt(FOREVER), UInt(FOREVER), UInt(255)])
            case 0x12:
                self.attach(channel, values, raws)
            case 0x13:
                self.flow(channel, values)
            case 0x14:
                self.transfer(channel, values, payload)
            case 0x15:
                self.disposition(channel, values)
            case 0x16:
                out = self.outs.pop((channel, values[0]), None)
                if out is not None and out.entity is not None and out in out.entity.links:
                    out.entity.links.remove(out)
                self.ins.pop((channel, values[0]), None)
                self.send(channel, 0x16, [UInt(values[0]), True])
            case 0x17:
                self.send(channel, 0x17, [])
            case 0x18:
                self.send(0, 0x18, [])
                self.close()
            case _:
                self.fail("amqp:not-implemented", f"performative {code:#x}")

    def attach(self, channel: int, values: list[Any], raws: list[bytes]) -> None:
        """Open a link, or refuse it with a condition."""
        name, handle, receives = values[0], values[1], values[2]
        place = values[5] if receives else values[6]
        address = str(place.value[0]).split("://", 1)[-1]
        address = address.split("/", 1)[1] if "/" in address and address.split("/", 1)[0] in self.broker.hosts else address
        special = address == "$cbs" or address.lower().endswith("$management")
        entity = None if special else self.broker.find(address)
        condition = said = ""
        if not special and not self.authorised:
            condition = "amqp:unauthorized-access"
        elif not special and entity is None and (receives or address.lower() not in self.broker.topics):
            condition = "amqp:not-found"
        elif not special and self.broker.refuse:
            condition = self.broker.refuse
        elif receives and entity is not None and entity.sessions:
            condition = "amqp:not-allowed"
            said = "It is not possible for an entity that requires sessions to create a non-sessionful message receiver."
        settle = [UByte(values[3] or 0), UByte(values[4] or 0)]
        ends = [Raw(raws[5]), Raw(raws[6])]
        tail = [None, False, UInt(0) if receives else None, int_max()]
        self.send(channel, 0x12, [name, UInt(handle), not receives, *settle, *ends, *tail])
        if condition:
            self.send(
                channel,
                0x16,
                [
                    UInt(handle),
                    True,
                    Described(0x1D, [Symbol(condition), said or f"{address}: {condition}", {Symbol("tracking-id"): "t"}]),
                ],
            )
            return
        if receives:
            out = Out(self, channel, handle, entity)
            self.outs[channel, handle] = out
            if special:
                self.replies[channel, address.lower()] = out
            elif entity is not None:
                entity.links.append(out)
        else:
            self.ins[channel, handle] = [address.lower(), 0]
            self.grant(channel, handle)

    def grant(self, channel: int, handle: int) -> None:
        """Give a sending client credit."""
        sent = self.ins[channel, handle][1]
        self.send(
            channel,
            0x13,
            [UInt(self.expected[channel]), UInt(FOREVER), UInt(0), UInt(FOREVER), UInt(handle), UInt(sent), UInt(1000)],
        )

    def flow(self, channel: int, values: list[Any]) -> None:
        """Take credit that a client gives."""
        out = self.outs.get((channel, values[4])) if values[4] is not None else None
        if out is None:
            return
        out.credit = (values[5] or 0) + (values[6] or 0) - out.count
        if out.entity is not None:
            out.entity.pump()
        if values[8]:
            out.count += max(0, out.credit)
            out.credit = 0

    def transfer(self, channel: int, values: list[Any], payload: bytes) -> None:
        """Take a message that a client sends; ids out of sequence end the connection."""
        handle, number, more = values[0], values[1], values[5]
        kept = self.partial.setdefault((channel, handle), bytearray())
        kept += payload
        if more:
            return
        payload = bytes(self.partial.pop((channel, handle)))
        if number is not None and number != self.expected[channel]:
            self.fail(
                "amqp:session:invalid-field", f"sequencing error, expected delivery-id {self.expected[channel]}, got {number}"
            )
            return
        self.expected[channel] += 1
        link = self.ins[channel, handle]
        link[1] += 1
        self.send(channel, 0x15, [True, UInt(number), UInt(number), True, Described(0x24, [])])
        self.grant(channel, handle)
        if link[0] == "$cbs":
            self.token(channel, payload)
        elif link[0].endswith("$management"):
            self.manage(channel, link[0], payload)
        else:
            self.broker.enqueue(link[0], payload)

    def reply(self, channel: int, address: str, request: dict[int, Any], status: int, body: Any, condition: str = "") -> None:
        """Answer a request on a link of its own kind."""
        properties = [None] * 5 + [request[0x73][0][0][0]]
        app: dict[str, Any] = {
            "status-code": Int(status),
            "status-description": condition or "OK",
            "statusCode": Int(status),
            "statusDescription": condition or "OK",
        }
        if condition:
            app["errorCondition"] = Symbol(condition)
        out = self.replies.get((channel, address))
        if out is not None:
            wire = (
                encode(Described(0x73, [*properties, *[None] * 7])) + encode(Described(0x74, app)) + encode(Described(0x77, body))
            )
            out.deliver(uuid.uuid4(), wire, settled=True)

    def token(self, channel: int, payload: bytes) -> None:
        """Take a token put to ``$cbs``."""
        request = sections(payload)
        self.broker.tokens.append(str(request[0x77][0][0]))
        self.authorised = self.broker.token_status == 202
        if not self.broker.token_silence:
            self.reply(channel, "$cbs", request, self.broker.token_status, "", "" if self.authorised else "Unauthorized")

    def manage(self, channel: int, address: str, payload: bytes) -> None:
        """Answer a management request: peek, renew, settle."""
        request = sections(payload)
        operation = str(request[0x74][0][0]["operation"]).rsplit(":", 1)[-1]
        entity = self.broker.find(address.removesuffix("/$management"))
        assert entity is not None
        body = request[0x77][0][0]
        if self.broker.drop_management > 0:
            self.broker.drop_management -= 1
            return
        if operation == "peek-message":
            ones = [
                one
                for one in sorted([*entity.ready, *(each for each, _ in entity.locked.values())], key=lambda one: one.sequence)
                if one.sequence >= body["from-sequence-number"]
            ]
            found = [{"message": one.wire(time.time())} for one in ones[: int(body["message-count"])]]
            self.reply(channel, address, request, 200 if found else 204, {"messages": found})
            return
        entity.expire()
        tokens = body["lock-tokens"]
        if any(token not in entity.locked for token in tokens):
            self.reply(channel, address, request, 410, {}, LOCK_LOST)
            return
        if operation == "renew-lock":
            until = time.time() + entity.lock_seconds
            for token in tokens:
                entity.renewed += 1
                entity.locked[token] = (entity.locked[token][0], until)
            self.reply(channel, address, request, 200, {"expirations": [Stamp(int(until * 1000))] * len(tokens)})
            return
        for token in tokens:
            how = {"completed": 0x24, "abandoned": 0x27, "suspended": 0x25}[str(body["disposition-status"])]
            self.broker.apply(
                entity, token, how, str(body.get("deadletter-reason", "")), str(body.get("deadletter-description", ""))
            )
        self.reply(channel, address, request, 200, {})

    def disposition(self, channel: int, values: list[Any]) -> None:
        """Settle messages that were delivered."""
        receiver, first, last, settled, state = values[:5]
        if not receiver:
            return
        for number in range(first, (first if last is None else last) + 1):
            found = self.unsettled.pop((channel, number), None)
            if found is None or state is None:
                continue
            asyncio.get_running_loop().call_later(
                self.broker.settle_delay, self._settled, channel, number, found, state, settled
            ) if self.broker.settle_delay else self._settled(channel, number, found, state, settled)

    def _settled(self, channel: int, number: int, found: tuple[Entity, uuid.UUID], state: Described, settled: bool) -> None:
        entity, token = found
        entity.expire()
        answer: Any = Described(int(state.code), [])
        if token in entity.locked:
            info = state.value[0].value[2] if int(state.code) == 0x25 and state.value and state.value[0] else {}
            self.broker.apply(
                entity,
                token,
                int(state.code),
                str(info.get("DeadLetterReason", "")),
                str(info.get("DeadLetterErrorDescription", "")),
            )
        else:
            answer = Described(
                0x25, [Described(0x1D, [Symbol(LOCK_LOST), "The lock supplied is invalid.", {Symbol("tracking-id"): "t"}])]
            )
        if settled or self not in self.broker.peers:
            return
        if self.broker.drop_settles > 0:
            self.broker.drop_settles -= 1
            return
        self.send(channel, 0x15, [False, UInt(number), UInt(number), True, answer])


def int_max() -> Raw:
    """Return the largest message size: an unsigned long."""
    return Raw(b"\x80" + struct.pack(">Q", 1 << 20))


class Broker:
    """A namespace. Switches are plain attributes, to be set between two awaits.

    Attributes:
        silent: Takes bytes and never answers. settle_delay: seconds before a settle takes effect and is answered.
        drop_settles, drop_management: so many of the next are applied (settles) or not even that, and not answered.
        refuse: condition that every new link is refused with. token_status: what a token is answered.
    """

    def __init__(self, *, tls: Any = None) -> None:
        self._tls = tls
        self.entities: dict[str, Entity] = {}
        self.topics: dict[str, list[str]] = {}
        self.peers: set[Peer] = set()
        self.hosts: set[str] = set()
        self.tokens: list[str] = []
        self.silent = False
        self.settle_delay = 0.0
        self.drop_settles = 0
        self.drop_management = 0
        self.refuse = ""
        self.refuse_connections = False
        self.token_status = 202
        self.token_silence = False
        self.connections = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Socket(self), "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.hosts |= {"127.0.0.1", f"127.0.0.1:{self.port}", "localhost", f"localhost:{self.port}", "ns.servicebus.windows.net"}
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ticker.cancel()
        await asyncio.gather(self._ticker, return_exceptions=True)
        self.reset()
        self._server.close()
        await self._server.wait_closed()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            for entity in list(self.entities.values()):
                entity.expire()

    @property
    def connection_string(self) -> str:
        """Return what a client connects by."""
        return f"Endpoint=sb://127.0.0.1:{self.port};SharedAccessKeyName=k;SharedAccessKey=c2VjcmV0;UseDevelopmentEmulator=true;"

    def queue(self, name: str, **options: Any) -> Entity:
        """Make a queue with its dead letters."""
        entity = Entity(name, **options)
        entity.dead = Entity(f"{name}/$DeadLetterQueue", lock_seconds=entity.lock_seconds, most_deliveries=FOREVER)
        self.entities[name.lower()] = entity
        self.entities[entity.dead.name.lower()] = entity.dead
        return entity

    def subscription(self, topic: str, name: str, **options: Any) -> Entity:
        """Make a subscription of a topic."""
        entity = self.queue(f"{topic}/Subscriptions/{name}", **options)
        self.topics.setdefault(topic.lower(), []).append(entity.name.lower())
        return entity

    def find(self, address: str) -> Entity | None:
        """Return an entity by its path."""
        return self.entities.get(address.lower())

    def enqueue(self, address: str, payload: bytes) -> None:
        """Store a message as it came over the wire."""
        parts = sections(payload)
        inner = b"".join(raw for _, raw in parts.get(0x73, []))
        body = b"".join(raw for code in (0x75, 0x76, 0x77) for _, raw in parts.get(code, []))
        app = {str(name): value for name, value in parts[0x74][0][0].items()} if 0x74 in parts else {}
        message_id = str(parts[0x73][0][0][0] or "") if 0x73 in parts and parts[0x73][0][0] else ""
        for name in self.topics.get(address, [address]):
            entity = self.entities[name]
            entity.sequence += 1
            entity.ready.append(Stored(entity.sequence, inner, body, dict(app), message_id, at=int(time.time() * 1000)))
            entity.pump()

    def put(
        self,
        address: str,
        body: bytes | Described,
        *,
        message_id: str | None = None,
        content_type: str | None = None,
        app: dict[str, Any] | None = None,
    ) -> None:
        """Enqueue as a sender does; bytes are a data section."""
        properties = [message_id, None, None, None, None, None, Symbol(content_type) if content_type else None]
        wire = encode(Described(0x73, properties)) + (encode(Described(0x74, app)) if app else b"")
        self.enqueue(address.lower(), wire + encode(body if isinstance(body, Described) else Described(0x75, body)))

    def apply(self, entity: Entity, token: uuid.UUID, code: int, reason: str, description: str) -> None:
        """Settle a locked message: accepted, rejected or given back."""
        if code == 0x24:
            one, _ = entity.locked.pop(token)
            entity.completed[one.message_id] += 1
        elif code == 0x25:
            entity.bury(entity.locked.pop(token)[0], reason, description)
        else:
            entity.abandoned += code == 0x27
            entity.give_back(token, count=code == 0x27)

    def reset(self) -> None:
        """Reset every connection."""
        for peer in list(self.peers):
            peer.close()

    def detach(self, condition: str = "amqp:link:detach-forced") -> None:
        """Detach every receiving link."""
        for peer in list(self.peers):
            for (channel, handle), out in list(peer.outs.items()):
                if out.entity is not None:
                    peer.outs.pop((channel, handle))
                    if out in out.entity.links:
                        out.entity.links.remove(out)
                    peer.send(
                        channel,
                        0x16,
                        [UInt(handle), True, Described(0x1D, [Symbol(condition), "by the test", {Symbol("tracking-id"): "t"}])],
                    )

    def close_frames(self, condition: str = "amqp:connection:forced") -> None:
        """Close every connection politely."""
        for peer in list(self.peers):
            peer.fail(condition, "by the test")

    def dead_letters(self, name: str) -> list[dict[str, Any]]:
        """Return ids and properties of the dead letters of an entity."""
        dead = self.entities[name.lower()].dead
        assert dead is not None
        return [{"id": one.message_id, **one.app} for one in dead.ready]


class _Socket(asyncio.Protocol):
    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.broker.refuse_connections:
            transport.abort()
        self.broker.connections += 1
        self.peer = Peer(self.broker, self._write, transport.abort)
        self.broker.peers.add(self.peer)

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if not self.broker.silent:
            self.peer.feed(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self.peer.lost()


@contextlib.asynccontextmanager
async def websockets(broker: Broker, tls: Any) -> Any:
    """Serve the broker over websockets too; gives the port."""

    async def bridge(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("AMQPWSB10",))
        await socket.prepare(request)
        outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        peer = Peer(broker, outgoing.put_nowait, lambda: outgoing.put_nowait(None))
        broker.peers.add(peer)

        async def pump() -> None:
            while (one := await outgoing.get()) is not None:
                await socket.send_bytes(one)
            await socket.close()

        pumping = asyncio.create_task(pump())
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                peer.feed(message.data)
        peer.lost()
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
        return socket

    app = web.Application()
    app.router.add_get("/$servicebus/websocket", bridge)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await stop_serving(runner)
