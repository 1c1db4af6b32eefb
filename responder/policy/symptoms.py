"""When a symptom becomes an alert, and when that alert is over. Pure: the watcher keeps the state and says what is said.

The decision a reader would question: this little judgement is ours although Prometheus has ``for`` and ``keep_firing_for``. The source exists for
clusters without Prometheus, and it is minutes faster: the mixin waits 15 min, and AKS begins to repair a node after 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from responder.model.symptom import Sighting, Symptom

UNREACHABLE_AFTER = timedelta(seconds=60)
SAY_AGAIN = timedelta(hours=1)
"""A firing alert is repeated this often; one not heard of for 24 h would no longer count (ARCHITECTURE.md, instances)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A symptom that is followed.

    Attributes:
        first_seen_at: By us, or when the cluster says it began.
        last_seen_at: It was there.
        said_at: Its alert was last said to fire; None while it is not an alert yet.
    """

    symptom: Symptom
    first_seen_at: datetime
    last_seen_at: datetime
    said_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What is to be said, and the state once it was said.

    Attributes:
        fires: Alerts that begin, or are due to be repeated.
        over: Alerts that end.
        standing: By symptom id, as it is when both were said.
    """

    fires: tuple[Standing, ...] = ()
    over: tuple[Standing, ...] = ()
    standing: Mapping[str, Standing] = field(default_factory=dict)


def speak(standing: Mapping[str, Standing], sighting: Sighting, *, cluster: str, now: datetime) -> Spoken:
    """Return what a sighting changes.

    While the sighting is incomplete nothing ends: what cannot be seen is not well. An API server that was not heard for a minute is an alert
    of its own.

    Args:
        standing: As the last ``Spoken`` left it.
        sighting: Of now.
        cluster: Its configured name.
        now: The instant.
    """
    seen = {one.id: one for one in (*sighting.symptoms, *_unreachable(sighting, cluster, now))}
    after: dict[str, Standing] = {}
    fires: list[Standing] = []
    over: list[Standing] = []
    for key, symptom in seen.items():
        one = _followed(standing.get(key), symptom, now)
        due = now - one.first_seen_at >= symptom.after
        if due and (one.said_at is None or now - one.said_at >= SAY_AGAIN):
            one = replace(one, said_at=now)
            fires.append(one)
        after[key] = one
    for key, one in standing.items():
        if key in seen:
            continue
        ended = sighting.complete and now - one.last_seen_at >= one.symptom.keep
        if not ended:
            after[key] = one
        elif one.said_at is not None:
            over.append(one)
    return Spoken(fires=tuple(_sorted(fires)), over=tuple(_sorted(over)), standing=after)


def _followed(before: Standing | None, symptom: Symptom, now: datetime) -> Standing:
    if before is None:
        began = now if symptom.since is None else min(symptom.since, now)
        return Standing(symptom=symptom, first_seen_at=began, last_seen_at=now)
    return replace(before, symptom=symptom, last_seen_at=now)


def _unreachable(sighting: Sighting, cluster: str, now: datetime) -> tuple[Symptom, ...]:
    if sighting.contact_at is None or now - sighting.contact_at < UNREACHABLE_AFTER:
        return ()
    says = f"the API server of {cluster} was last heard at {sighting.contact_at:%H:%M:%S} UTC"
    return (Symptom(name="KubeAPIDown", labels={}, subject=cluster, severity="critical", says=says, since=sighting.contact_at),)


def _sorted(found: list[Standing]) -> list[Standing]:
    return sorted(found, key=lambda one: one.symptom.id)
