"""When what a watch shows becomes an alert, and when it is over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from responder.model.symptom import Sighting, Symptom
from responder.policy.symptoms import SAY_AGAIN, Spoken, Standing, speak
from tests.builders import NOON

MINUTE = timedelta(minutes=1)


def symptom(**changes: Any) -> Symptom:
    return Symptom(**{"name": "KubePodCrashLooping", "labels": {"pod": "api-1"}, "subject": "uid-1", **changes})


def sighting(*symptoms: Symptom, complete: bool = True, contact_at: datetime | None = None) -> Sighting:
    return Sighting(symptoms=symptoms, complete=complete, contact_at=contact_at)


def names(standing: tuple[Standing, ...]) -> list[str]:
    return [one.symptom.name for one in standing]


def said(*steps: tuple[float, Sighting]) -> Spoken:
    """Speak at each time (minutes after noon) and return the last."""
    spoken = Spoken()
    for minutes, seen in steps:
        spoken = speak(spoken.standing, seen, cluster="prod", now=NOON + minutes * MINUTE)
    return spoken


def test_a_symptom_must_last_before_it_is_an_alert() -> None:
    """Counted from when the cluster says it began, else from when it was first seen."""
    slow = symptom(after=2 * MINUTE)

    assert said((0, sighting(slow))).fires == ()
    assert said((0, sighting(slow)), (1.9, sighting(slow))).fires == ()
    assert names(said((0, sighting(slow)), (2, sighting(slow))).fires) == ["KubePodCrashLooping"]
    assert names(said((0, sighting(symptom(after=2 * MINUTE, since=NOON - 3 * MINUTE)))).fires) == ["KubePodCrashLooping"]


def test_an_alert_is_said_once_and_again_every_hour() -> None:
    """A repeat keeps it from being forgotten; more would be noise."""
    first = said((0, sighting(symptom())))

    assert names(first.fires) == ["KubePodCrashLooping"]
    assert said((0, sighting(symptom())), (30, sighting(symptom()))).fires == ()
    assert names(said((0, sighting(symptom())), (SAY_AGAIN / MINUTE, sighting(symptom()))).fires) == ["KubePodCrashLooping"]


def test_a_crash_loop_that_looks_well_for_a_moment_is_not_over() -> None:
    """It must be gone for as long as it says."""
    loop = symptom(keep=5 * MINUTE)

    assert said((0, sighting(loop)), (1, sighting()), (4.9, sighting())).over == ()
    assert said((0, sighting(loop)), (4, sighting()), (4.5, sighting(loop)), (8, sighting())).over == ()
    assert names(said((0, sighting(loop)), (5, sighting())).over) == ["KubePodCrashLooping"]


def test_what_never_was_an_alert_is_not_said_to_be_over() -> None:
    """Nobody was told."""
    spoken = said((0, sighting(symptom(after=MINUTE))), (0.5, sighting()))

    assert (spoken.fires, spoken.over, dict(spoken.standing)) == ((), (), {})


def test_an_api_server_that_is_not_heard_for_a_minute_is_an_alert() -> None:
    """And over as soon as it is heard, its other alerts standing meanwhile."""
    deaf = sighting(complete=False, contact_at=NOON)
    heard = sighting(symptom(), complete=True, contact_at=NOON)
    down = said((0, heard), (1, deaf))
    back = said((0, heard), (1, deaf), (2, sighting(complete=True, contact_at=NOON + 2 * MINUTE)))

    assert names(said((0, heard), (0.9, deaf)).fires) == []
    assert names(down.fires) == ["KubeAPIDown"]
    assert names(down.over) == []
    assert sorted(names(back.over)) == ["KubeAPIDown", "KubePodCrashLooping"]


SIGHTINGS = st.lists(
    st.tuples(
        st.floats(min_value=0, max_value=600),
        st.lists(st.sampled_from(["a", "b", "c"]), unique=True),
        st.booleans(),
    ),
    max_size=30,
)


@given(SIGHTINGS)
def test_alerts_alternate_and_nothing_ends_unseen(steps: list[tuple[float, list[str], bool]]) -> None:
    """Whatever is seen: an alert is over only after it fired, only once, and never while the cluster cannot be seen whole."""
    standing: Any = {}
    firing: set[str] = set()
    for minutes, subjects, complete in sorted(steps, key=lambda one: one[0]):
        seen = sighting(*(symptom(subject=one, keep=MINUTE) for one in subjects), complete=complete)
        spoken = speak(standing, seen, cluster="prod", now=NOON + minutes * MINUTE)
        standing = spoken.standing
        over = {one.symptom.subject for one in spoken.over}
        assert over <= firing
        assert complete or not over
        assert not over & set(subjects)
        firing = (firing - over) | {one.symptom.subject for one in spoken.fires}
    assert firing == {one.symptom.subject for one in standing.values() if one.said_at is not None}
