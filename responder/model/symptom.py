"""Symptoms: what a watched cluster shows to be wrong with one thing, before anybody's alerting rule says so.

Never here: how it is read (``clusters``), or when it becomes an alert (``policy.symptoms``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One thing that looks wrong now.

    Attributes:
        name: The alert it becomes; kubernetes-mixin's name where it has one.
        labels: kubernetes-mixin's labels, without ``cluster``.
        subject: What tells two firings apart that have the same labels: an object's UID. Every replica sees the same.
        severity: The alert's own word; a rule says what counts.
        says: For people.
        since: When it began as the cluster says; None counts from when it was first seen.
        after: How long it must last before it is an alert.
        keep: How long it must be gone before the alert is over: a crash loop looks well for seconds in each round.
    """

    name: str
    labels: Mapping[str, str]
    subject: str
    severity: str = "warning"
    says: str = ""
    since: datetime | None = None
    after: timedelta = timedelta(0)
    keep: timedelta = timedelta(0)

    @property
    def id(self) -> str:
        """The same for the same trouble of the same object, on every replica and after a restart."""
        parts = [self.name, self.subject, *(f"{name}={self.labels[name]}" for name in sorted(self.labels))]
        return "/".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What a watch shows of its cluster now.

    Attributes:
        symptoms: Everything that looks wrong.
        complete: All that is watched was read and is fresh. While it is not, nothing may be taken as over.
        contact_at: When the API server was last heard; None before the first time.
    """

    symptoms: tuple[Symptom, ...] = ()
    complete: bool = False
    contact_at: datetime | None = field(default=None)
