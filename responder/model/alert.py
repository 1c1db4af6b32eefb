"""Alerts: one condition on one thing, normalised from what a sender sent.

Never here: how any one sender spells it (``sources``), or what to do about it (``policy``).

The decision a reader would question: the sender's own fingerprint is not trusted. It may be missing, or shared by two
Prometheus servers; ours is computed over the source and the labels.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

import msgspec
from msgspec import structs


class SourceKind(StrEnum):
    """The format an alert arrived in, not the road it came by. Source: RULES.md, key ``source``."""

    ALERTMANAGER = "alertmanager"
    AZURE_MONITOR = "azure-monitor"
    EVENT_GRID = "event-grid"
    GRAFANA = "grafana"
    SERVICE_BUS = "service-bus"
    KUBERNETES = "kubernetes"
    MANUAL = "manual"
    RESPONDER = "responder"


class AlertStatus(StrEnum):
    """Whether the condition holds, as the sender last said."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """How bad; PagerDuty Events v2's four words."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for critical up to 3 for info: lower is worse."""
        return list(Severity).index(self)


AZURE_SEVERITIES: Mapping[str, Severity] = {
    "sev0": Severity.CRITICAL,
    "sev1": Severity.ERROR,
    "sev2": Severity.WARNING,
    "sev3": Severity.WARNING,
    "sev4": Severity.INFO,
}
"""Azure Monitor's severities, lower-cased. Source: RULES.md, key ``severity``."""


_SEVERITIES: Mapping[str, Severity] = {
    "high": Severity.ERROR,
    "medium": Severity.WARNING,
    "low": Severity.INFO,
    "page": Severity.CRITICAL,
    "informational": Severity.INFO,
    "information": Severity.INFO,
    "none": Severity.INFO,
    "verbose": Severity.INFO,
    **{word.removeprefix("sev"): severity for word, severity in AZURE_SEVERITIES.items()},
    **AZURE_SEVERITIES,
    **{str(severity): severity for severity in Severity},
}
"""Every word that is known, lower-cased: synonyms, Azure's with and without ``Sev``, our own."""


def severity_of(*, label: str, sender: str) -> Severity:
    """Map a sender's words to ours.

    Args:
        label: The alert's label ``severity``; counts when it is one of our four words or ``Sev0`` to ``Sev4``; may be "".
        sender: The sender's own severity field, such as ``Sev1``, ``3`` or ``Warning``; may be "".

    Returns:
        The label's severity if it is a known word, else the sender's, else warning (unknown is neither panic nor silence).

    Source: RULES.md, key ``severity``.
    """
    for word in (label, sender):
        known = _SEVERITIES.get(word) or _SEVERITIES.get(word.strip().lower())
        if known is not None:
            return known
    return Severity.WARNING


class Alert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One condition on one thing, as one sender last described it.

    A struct and not a dataclass, as ``Instance`` is: a storm makes a hundred thousand, and a frozen dataclass takes seven times as long to make.
    A changed copy is ``msgspec.structs.replace``.

    Attributes:
        source: The format it arrived in.
        source_name: The configured name of the sender, the last path segment of its webhook.
        name: ``labels.alertname``, else the rule's name; "" when the sender gave none.
        status: Firing or resolved.
        severity: Normalised.
        sender_severity: The sender's own word, kept for people; "" when none.
        labels: Identity, for matchers and target resolution; always holds ``alertname`` when the name is known.
        annotations: Everything else said about it.
        fingerprint: Ours; same sender and labels, same fingerprint.
        instance: Identity of one firing (ARCHITECTURE.md "How an incident lives"): the same from fired to resolved.
        started_at: When the condition began, as the sender says; None when it did not say.
        ended_at: When it ended; only for resolved alerts whose sender says so.
        value: The measured value; None for Alertmanager, which never sends one.
        resource_ids: Lower-cased ARM ids that the alert names, most specific first; may be empty.
        subscriptions: Lower-cased ids of all Azure subscriptions that the body names as its own, its rule's and its targets'; empty for other senders.
        resolves: False for senders that never send a Resolved (activity log, stateless log alerts and the like).
        resolved_is_final: A Resolved may overtake its Fired and then wins (Azure Monitor); else the last received counts.
        test: A sender's test; stops at the router.
        link: The sender's page about it; "" when none.
    """

    source: SourceKind
    source_name: str
    name: str
    status: AlertStatus
    severity: Severity
    sender_severity: str = ""
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    fingerprint: str
    instance: str
    started_at: datetime | None
    ended_at: datetime | None = None
    value: float | None = None
    resource_ids: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    resolves: bool = True
    resolved_is_final: bool = False
    test: bool = False
    link: str = ""


_ENCODE = msgspec.json.Encoder(order="deterministic").encode
"""Sorted by name, in one call: a hash over the parts took three times as long."""


def fingerprint(source: str, labels: Mapping[str, str]) -> str:
    """Return twenty letters and digits (URL-safe base 64, 120 bits) that are the same for the same sender and labels, whatever their order."""
    try:
        said = _ENCODE(labels)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can name and UTF-8 cannot
        said = repr(sorted(labels.items())).encode("utf-8", "surrogatepass")
    sum_ = _begun(source).copy()
    sum_.update(said)
    return b2a_base64(sum_.digest(), newline=False).translate(_URL_SAFE).decode()


@lru_cache(maxsize=256)
def _begun(source: str) -> hashlib.blake2b:
    return hashlib.blake2b(source.encode() + b"\xff", digest_size=15)


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
"""As ``base64.urlsafe_b64encode`` does, which takes longer to look at its arguments."""


class Folded(Mapping[str, str]):
    """Labels or annotations as the JSON that they are stored as, until somebody looks.

    Attributes:
        said: A JSON object of texts.
    """

    __slots__ = ("said",)

    def __init__(self, said: bytes) -> None:
        """Take JSON of ours: it is not checked."""
        self.said = said

    def __getitem__(self, name: str) -> str:
        """Return a text."""
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        """Name all, in their order."""
        return iter(self._read())

    def __len__(self) -> int:
        """Count them."""
        return len(self._read())

    def _read(self) -> dict[str, str]:
        return _TEXTS(self.said)


_TEXTS = msgspec.json.Decoder(dict[str, str]).decode
_FOLD = msgspec.json.Encoder().encode


def folded(alert: Alert) -> Alert:
    """Return an alert that takes a third of the memory: for when its labels have been looked at, and thousands wait to be stored together.

    It is the same alert, and equal to it. One whose texts cannot be stored (half of a surrogate pair) stays as it is: whoever stores it says so.
    """
    try:
        return structs.replace(alert, labels=_fold(alert.labels), annotations=_fold(alert.annotations))
    except UnicodeEncodeError:
        return alert


def _fold(said: Mapping[str, str]) -> Folded:
    return said if type(said) is Folded else Folded(_FOLD(said))


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """The alerts of one body.

    Attributes:
        understood: False when the shape is not known; ``why`` then says what was looked for.
        gaps: Sentences about what is missing or was cut, with the fix.
        shape: Which known shape it is; ``unknown`` otherwise.
    """

    alerts: tuple[Alert, ...] = ()
    understood: bool = True
    gaps: tuple[str, ...] = ()
    shape: str = "unknown"
    why: str = ""
