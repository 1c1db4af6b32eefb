"""Which clusters answer, and how little a silent one is asked."""

from __future__ import annotations

import pytest

from responder.model.errors import ForbiddenError, RemoteError, ThrottledError, TransientError
from responder.service.contacts import Contacts
from tests.fakes.clock import FakeClock


def no_answer() -> TransientError:
    return TransientError("no answer", system="kubernetes", operation="GET", target="x")


def silent(clock: FakeClock) -> Contacts:
    """Return contacts that heard nothing from prod for ten seconds."""
    contacts = Contacts(clock=clock)
    contacts.failed("prod", no_answer())
    clock.forward(seconds=10)
    contacts.failed("prod", no_answer())
    return contacts


def test_one_failure_is_no_silence_and_two_at_once_are_none() -> None:
    """Ten seconds apart they are."""
    clock = FakeClock()
    contacts = Contacts(clock=clock)
    contacts.failed("prod", no_answer())
    contacts.failed("prod", TimeoutError())

    assert contacts.silent("prod") == ""
    assert "has not answered since 12:00:00" in silent(FakeClock()).silent("prod")


@pytest.mark.parametrize("kind", [ForbiddenError, ThrottledError])
def test_a_refusal_is_an_answer(kind: type[RemoteError]) -> None:
    """Who says no is there."""
    clock = FakeClock()
    contacts = Contacts(clock=clock)
    for _ in range(3):
        contacts.failed("prod", kind("no", system="kubernetes", operation="GET", target="x"))
        clock.forward(seconds=10)

    assert contacts.silent("prod") == ""


def test_a_silent_cluster_is_asked_once_in_five_seconds_and_the_others_as_ever() -> None:
    """All the others fail at once: unknown."""
    clock = FakeClock()
    contacts = silent(clock)
    asked = 0
    for _ in range(20):
        contacts.admit("other")
        try:
            contacts.admit("prod")
            asked += 1
        except TransientError:
            pass
        clock.forward(seconds=1)

    assert asked == 4


def test_one_answer_ends_the_silence() -> None:
    """And what waited for it is counted anew the next time."""
    contacts = silent(FakeClock())
    waiting = [contacts.waits("prod", "armed", name) for name in ("a", "a", "b")]
    contacts.answered("prod")

    assert waiting == [1, 1, 2]
    assert contacts.silent("prod") == ""
    assert contacts.waits("prod", "armed", "c") == 0
