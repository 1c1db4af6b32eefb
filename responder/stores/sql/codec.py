"""Values to bytes and back: JSON by msgspec, bodies compressed; incidents with their version and up-casters."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from responder.model.errors import InvariantError
from responder.model.incident import STATE_VERSION, Incident

T = TypeVar("T")

W = TypeVar("W", bound=StrEnum)

UpCaster = Callable[[dict[str, Any]], dict[str, Any]]

UP_CASTERS: Mapping[int, UpCaster] = {}
"""From a state version to the next: ``{1: to_2}``. Empty while there is only one."""

WRITTEN_VERSION = STATE_VERSION
"""What is written. One behind ``STATE_VERSION`` in the release that raises that one: the release before runs beside it on one store, reads what
it writes, and can be gone back to. The release after writes the new form."""

DOWN_CASTERS: Mapping[int, UpCaster] = {}
"""From a state version to the one before, for what is written: ``{2: to_1}`` while ``WRITTEN_VERSION`` is 1. Fields that are only added need
none of this: who does not know them passes over them."""

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""What decoding raises: the first is also the parent of ``ValidationError``, the second comes of bytes that are no text."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def pack(value: Any) -> bytes:
    """Return a value as compact JSON."""
    return msgspec.json.encode(value)


def unpack(data: bytes, kind: type[T]) -> T:
    """Return the value of JSON.

    Raises:
        InvariantError: The stored bytes are not that kind: a missing up-caster, a bug in us.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except UNDECODABLE as error:
        raise InvariantError(f"stored {kind.__name__} cannot be read: {error}") from error


def pack_incident(
    incident: Incident,
    *,
    present: int = STATE_VERSION,
    written: int = WRITTEN_VERSION,
    casters: Mapping[int, UpCaster] = DOWN_CASTERS,
) -> bytes:
    """Return an incident's state in the form of the written version; facts keep their JSON form (durations and instants become ISO strings)."""
    data = msgspec.json.encode(incident)
    for step in range(present, written, -1):
        data = pack(casters[step](unpack(data, dict)))
    return data


def unpack_incident(
    data: bytes, version: int, *, present: int = STATE_VERSION, casters: Mapping[int, UpCaster] = UP_CASTERS
) -> Incident:
    """Return a stored incident, lifted to the present version.

    Args:
        data: As stored.
        version: It was stored with.
        present: Of this release.
        casters: From each version to the next.

    Raises:
        InvariantError: It cannot be read, was written by a newer release, or a step up is missing.
    """
    if version > present:
        raise InvariantError(f"an incident of state version {version} was written by a newer release; this one knows {present}")
    for step in range(version, present):
        if step not in casters:
            raise InvariantError(f"an incident of state version {version} cannot be lifted to {present}: no step from {step}")
        data = pack(casters[step](unpack(data, dict)))
    return unpack(data, Incident)


SMALL = 1 << 10
"""Bytes below which nothing is compressed, only wrapped so that ``stretch`` of every release reads it: for a lone alert's body, compressing costs more
than storing it, and saves less than its row has beside it."""


def squeeze(data: bytes) -> bytes:
    """Return bytes compressed, unless they are few."""
    return zlib.compress(data, 3 if len(data) >= SMALL else 0)


def stretch(data: bytes) -> bytes:
    """Return compressed bytes as they were.

    Raises:
        InvariantError: They are not what ``squeeze`` made.
    """
    try:
        return zlib.decompress(data)
    except zlib.error as error:
        raise InvariantError(f"stored bytes cannot be read: {error}") from error


def word(kind: type[W], said: str, otherwise: W) -> W:
    """Return a word of a closed list, or another one for what is none: a newer release beside this one may write words that this one has not."""
    try:
        return kind(said)
    except ValueError:
        return otherwise


def millis(at: datetime) -> int:
    """Return an instant as epoch milliseconds, rounded down; in whole numbers, since a float is off by one now and then."""
    return (at - _EPOCH) // _MILLISECOND


def not_before(at: datetime | None) -> int | None:
    """Return when to wake up as epoch milliseconds, rounded up: who wakes a moment early finds nothing due and spins."""
    return None if at is None else -((_EPOCH - at) // _MILLISECOND)


def maybe_millis(at: datetime | None) -> int | None:
    """Return an instant as epoch milliseconds, None as None."""
    return None if at is None else millis(at)


def instant(at: int) -> datetime:
    """Return epoch milliseconds as an instant, UTC."""
    return _EPOCH + at * _MILLISECOND


def span(duration: timedelta) -> int:
    """Return a duration in milliseconds."""
    return duration // _MILLISECOND
