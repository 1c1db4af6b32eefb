"""Values to bytes and back: JSON by msgspec, bodies compressed; incidents with their version and up-casters."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from responder.model.errors import InvariantError
from responder.model.incident import STATE_VERSION, Incident

T = TypeVar("T")

UP_CASTERS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From a state version to the next: ``{1: to_2}``. Empty while there is only one."""


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
    except msgspec.ValidationError as error:
        raise InvariantError(f"stored {kind.__name__} cannot be read: {error}") from error


def pack_incident(incident: Incident) -> bytes:
    """Return an incident's state; facts keep their JSON form (durations and instants become ISO strings)."""
    return msgspec.json.encode(incident)


def unpack_incident(data: bytes, version: int) -> Incident:
    """Return a stored incident, lifted to the present version.

    Raises:
        InvariantError: It was written by a newer version than this one knows.
    """
    if version > STATE_VERSION:
        raise InvariantError(
            f"an incident of state version {version} was written by a newer release; this one knows {STATE_VERSION}"
        )
    if version < STATE_VERSION:
        raw = msgspec.json.decode(data)
        for step in range(version, STATE_VERSION):
            raw = UP_CASTERS[step](raw)
        return msgspec.convert(raw, type=Incident)
    return unpack(data, Incident)


def squeeze(data: bytes) -> bytes:
    """Return bytes compressed."""
    return zlib.compress(data, 3)


def stretch(data: bytes) -> bytes:
    """Return compressed bytes as they were."""
    return zlib.decompress(data)


def millis(at: datetime) -> int:
    """Return an instant as epoch milliseconds."""
    return int(at.timestamp() * 1000)


def maybe_millis(at: datetime | None) -> int | None:
    """Return an instant as epoch milliseconds, None as None."""
    return None if at is None else millis(at)


def instant(at: int) -> datetime:
    """Return epoch milliseconds as an instant, UTC."""
    return datetime.fromtimestamp(at / 1000, tz=UTC)


def span(duration: timedelta) -> int:
    """Return a duration in milliseconds."""
    return int(duration.total_seconds() * 1000)
