"""How an alert's instance stands in its row: what statements ask for in columns, the rest as a JSON array in the order of ``_Rest``'s fields.

Never here: statements (``routing``).

The decision a reader would question: an array without names, and written past the value that it becomes when it is read. A storm writes a hundred thousand
rows: names are a third of each, and nobody reads most of them before they are repeated. Fields are only ever added at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from zlib import crc32

import msgspec

from responder.model.alert import Alert, AlertStatus, Folded, Severity
from responder.model.errors import InvariantError
from responder.model.incident import Instance
from responder.model.reason import Reason
from responder.stores.sql.codec import UNDECODABLE, instant, millis, word

COLUMNS = ("name", "status", "why", "started_at", "seen_at", "wake_at", "incident", "shadow_incident", "kind", "place", "body")
"""What may differ at a repeat."""

_ENCODE = msgspec.json.Encoder().encode

_TIES = 16
"""Bits of ``place`` below the milliseconds: those reach from before the year 1 to 6429."""

_LAST = (1 << 63 - _TIES) - 1


@lru_cache(maxsize=4096)
def kind_of(name: str, severity: Severity, resolves: bool, rules: tuple[str, ...]) -> int:
    """Return the number of what alerts have in common for whoever judges the incident that holds them: 63 bits.

    Of several with the same, the oldest stands for all (``standing``). A later release may count more as different: then there are only more numbers.
    """
    return int.from_bytes(blake2b(_ENCODE((name, severity, resolves, rules)), digest_size=8).digest()) >> 1


def first_place(began_at: int) -> int:
    """Return the first of the places that alerts have which began then, in milliseconds; ``tie`` is added to it."""
    return min(began_at, _LAST) << _TIES


def tie(instance: str) -> int:
    """Return what tells apart, by their names, alerts that began at the same time: hundreds do in a storm, and always the same one is to stand first."""
    try:
        named = instance.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        named = instance.encode("utf-8", "surrogatepass")
    return crc32(named) >> 32 - _TIES


def kind(one: Instance) -> int:
    """Return the same of an instance."""
    return kind_of(one.name, one.severity, one.resolves, one.rules)


def place(one: Instance) -> int:
    """Return where an alert stands among those that an incident holds, oldest first: when it began, or was first received, and ``tie``."""
    return first_place(millis(one.started_at or one.first_seen_at)) | tie(one.instance)


def oldest_first(instances: Iterable[Instance]) -> list[Instance]:
    """Return instances in the order in which they began."""
    return sorted(instances, key=lambda one: (place(one), one.instance))


class _Rest(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What no statement asks for, in the order of ``body``; ``first_seen_at`` is None where it is the same as ``seen_at``."""

    source: str
    source_name: str
    severity: Severity
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    started_at: datetime | None
    seen_at: datetime
    first_seen_at: datetime | None
    rules: tuple[str, ...]
    link: str
    value: float | None
    resolves: bool
    count: int


_DECODE = msgspec.json.Decoder(_Rest).decode


def unfolded(said: Mapping[str, str]) -> Mapping[str, str] | msgspec.Raw:
    """Return labels or annotations as ``msgspec`` can encode them."""
    return msgspec.Raw(said.said) if type(said) is Folded else said


def body(one: Instance) -> bytes:
    """Return what is stored of an instance beside its columns."""
    first = None if one.first_seen_at == one.seen_at else one.first_seen_at
    return _ENCODE(
        (
            one.source,
            one.source_name,
            one.severity,
            unfolded(one.labels),
            unfolded(one.annotations),
            one.started_at,
            one.seen_at,
            first,
            one.rules,
            one.link,
            one.value,
            one.resolves,
            one.count,
        )
    )


def times(started_at: datetime | None, now: datetime) -> msgspec.Raw:
    """Return what the body of a new instance says of its times, for ``new_body``: hundreds that began together say the same."""
    return msgspec.Raw(_ENCODE((started_at, now, None))[1:-1])


def new_body(alert: Alert, rules: tuple[str, ...], said: msgspec.Raw) -> bytes:
    """Return ``body`` of ``grouping.begun``, without making it; ``said`` is what ``times`` returns."""
    return _ENCODE(
        (
            alert.source,
            alert.source_name,
            alert.severity,
            unfolded(alert.labels),
            unfolded(alert.annotations),
            said,
            rules,
            alert.link,
            alert.value,
            alert.resolves,
            1,
        )
    )


def instance(row: Any) -> Instance:
    """Return a row as a value.

    Raises:
        InvariantError: The stored bytes are none of ours: a bug in us.
    """
    try:
        rest = _DECODE(row.body)
    except UNDECODABLE as error:
        raise InvariantError(f"stored alert {row.instance} cannot be read: {error}") from error
    return Instance(
        instance=row.instance,
        fingerprint=row.fingerprint,
        source=rest.source,
        source_name=rest.source_name,
        name=row.name,
        status=AlertStatus.FIRING if row.status == "firing" else AlertStatus.RESOLVED,
        severity=rest.severity,
        labels=rest.labels,
        annotations=rest.annotations,
        value=rest.value,
        started_at=rest.started_at,
        first_seen_at=rest.first_seen_at or rest.seen_at,
        seen_at=rest.seen_at,
        resolves=rest.resolves,
        rules=rest.rules,
        incident=row.incident,
        shadow_incident=row.shadow_incident,
        why=word(Reason, row.why, Reason.UNREADABLE) if row.why else None,
        count=rest.count,
        link=rest.link,
    )


def legible(row: Any) -> Instance:
    """Return a row as a value; one whose bytes are damaged as far as its columns say, with the problem.

    It fires as long as it would, whoever sent it: nothing that reads alerts stops at one, and none is taken to be over for want of its bytes.
    """
    try:
        return instance(row)
    except InvariantError as error:
        began_at = None if row.started_at is None else instant(row.started_at)
        seen_at = instant(row.seen_at)
        return Instance(
            instance=row.instance,
            fingerprint=row.fingerprint,
            source="",
            source_name="",
            name=row.name,
            status=AlertStatus.FIRING if row.status == "firing" else AlertStatus.RESOLVED,
            severity=Severity.ERROR,
            labels={},
            started_at=began_at,
            first_seen_at=began_at or seen_at,
            seen_at=seen_at,
            incident=row.incident,
            shadow_incident=row.shadow_incident,
            why=word(Reason, row.why, Reason.UNREADABLE) if row.why else None,
            problem=str(error),
        )
