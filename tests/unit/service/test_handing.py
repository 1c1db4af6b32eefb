"""The way from the intake to the router: in order, bounded, and never past what waits in the store."""

from __future__ import annotations

from responder.model.storing import Delivery
from responder.service.handing import Handing
from tests import builders as make


def delivery(number: int, body: bytes = b"{}") -> Delivery:
    return Delivery(id=number, source="s", source_name="n", body=body, received_at=make.NOON)


def opened(**bounds: int) -> Handing:
    handing = Handing(**bounds)
    handing.caught_up(handing.mark())
    return handing


def test_what_was_stored_first_is_taken_first_and_once() -> None:
    """The router takes all that waits at once."""
    handing = opened()
    for number in (1, 2, 3):
        assert handing.reserve(2)
        handing.put(delivery(number))

    assert [one.id for one in handing.take()] == [1, 2, 3]
    assert handing.take() == []


def test_nothing_is_handed_over_before_the_store_was_found_to_hold_none() -> None:
    """After a start, older deliveries may wait there; a newer one must not overtake them."""
    handing = Handing()

    assert not handing.reserve(1)
    handing.caught_up(handing.mark())
    assert handing.reserve(1)


def test_after_one_that_went_by_the_store_so_do_all_until_the_store_has_none_left() -> None:
    """Its room is there again, but it still waits in the store."""
    handing = opened(most=1)
    assert handing.reserve(1)
    looked = handing.mark()
    assert not handing.reserve(1)
    handing.free(1)

    assert not handing.reserve(1)
    handing.caught_up(looked)  # a look that began before it was stored
    assert not handing.reserve(1)
    handing.caught_up(handing.mark())
    assert handing.reserve(1)


def test_large_bodies_go_by_the_store_when_many_are_under_way() -> None:
    """Memory is bounded by bytes, whatever their number."""
    handing = opened(most_bytes=100)

    assert handing.reserve(60)
    assert not handing.reserve(60)


def test_room_is_free_again_when_what_was_handed_over_is_taken() -> None:
    """And the next ones find it."""
    handing = opened(most_bytes=4)
    for number in range(3):
        for place in range(2):
            assert handing.reserve(2)
            handing.put(delivery(2 * number + place))
        assert len(handing.take()) == 2
