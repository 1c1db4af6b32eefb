"""The door: bounded, and durable before it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from responder.model.errors import IntakeFullError, MalformedError, OversizeError
from responder.model.storing import NewDelivery
from responder.ports import Store
from responder.service.backlog import Backlog
from responder.service.intake import Intake
from tests.fakes.clock import FakeClock


class SlowStore:
    """A store that takes its time until it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.stored: list[NewDelivery] = []

    async def accept(self, deliveries: Sequence[NewDelivery]) -> Sequence[bool]:
        await self.go.wait()
        self.stored += deliveries
        return [True for _ in deliveries]


async def test_a_full_intake_tells_senders_to_come_back_and_takes_them_again_afterwards() -> None:
    """Bounded: nothing queues without end."""
    store = SlowStore()
    intake = Intake(store=cast("Store", store), clock=FakeClock(), most_waiting=2)
    waiting = [asyncio.create_task(intake.accept(source="s", source_name="n", body=b"{}")) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(IntakeFullError):
        await intake.accept(source="s", source_name="n", body=b"{}")
    store.go.set()
    await asyncio.gather(*waiting)

    assert await intake.accept(source="s", source_name="n", body=b"{}")
    assert len(store.stored) == 3


async def test_more_deliveries_than_may_wait_to_be_routed_are_refused_until_some_are() -> None:
    """Stored is not worked off: a storm that is faster than the router is held at the door, and not on the disk."""
    store = SlowStore()
    store.go.set()
    intake = Intake(store=cast("Store", store), clock=FakeClock(), backlog=Backlog(most=2))
    for number in range(2):
        await intake.accept(source="s", source_name="n", body=b"[%d]" % number)

    with pytest.raises(IntakeFullError, match="wait to be routed"):
        await intake.accept(source="s", source_name="n", body=b"{}")
    intake.backlog.went(1)

    assert await intake.accept(source="s", source_name="n", body=b"{}")
    intake.backlog.counted(0)
    assert not intake.backlog.full


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", MalformedError),
        (b"\x00", MalformedError),
        (b"[" * 100_000, MalformedError),
        (b'{"a": "\xff"}', MalformedError),
        (b'"' + b"x" * 2000 + b'"', OversizeError),
    ],
    ids=["cut", "binary", "too deep", "no UTF-8", "too large"],
)
async def test_what_cannot_be_a_delivery_is_refused_before_it_is_stored(body: bytes, error: type[Exception]) -> None:
    """Not JSON, or too large."""
    store = SlowStore()

    with pytest.raises(error):
        await Intake(store=cast("Store", store), clock=FakeClock(), largest=1000 if error is OversizeError else 1 << 20).accept(
            source="s", source_name="n", body=body
        )

    assert store.stored == []


async def test_the_body_is_stored_as_it_came() -> None:
    """Byte for byte, numbers beyond 64 bits too."""
    store = SlowStore()
    store.go.set()
    body = b'{"groupKey": 12345678901234567890123, "x":  1.10}'

    await Intake(store=cast("Store", store), clock=FakeClock()).accept(source="s", source_name="n", body=body)

    assert store.stored[0].body == body
