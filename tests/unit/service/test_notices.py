"""What a message holds, whatever an incident holds."""

from __future__ import annotations

from datetime import timedelta

from responder.model.alert import AlertStatus
from responder.model.incident import Instance, Phase, Tell
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.model.target import Target, TargetKind
from responder.service.notices import ALERTS_SHOWN, LABELS_SHOWN, render
from tests import builders as make

PAGE = Tell(kind=NoticeKind.PAGE, level=1, channels=("pager",), reason=Reason.EXHAUSTED, due_at=make.NOON)


def shown(*instances: Instance) -> tuple[str, ...]:
    return render(make.incident(), PAGE, opening=1, rules={}, instances=instances, now=make.NOON, base_url="").alerts


def test_a_page_names_what_fires_before_what_is_over() -> None:
    """An incident may hold hundreds that are resolved, all older than the one that somebody is called for."""
    over = [
        make.instance(instance=f"i{number}", status=AlertStatus.RESOLVED, started_at=make.NOON - timedelta(hours=2))
        for number in range(ALERTS_SHOWN)
    ]

    lines = shown(*over, make.instance(name="KubePodNotReady"))

    assert lines[0].startswith("KubePodNotReady")
    assert "firing" in lines[0]
    assert len(lines) == ALERTS_SHOWN + 1
    assert lines[-1] == "and more: the report lists them"


def test_a_page_lists_all_alerts_that_there_are_while_they_are_few() -> None:
    """Oldest first, and nothing is said of more."""
    names = ("A", "B", "C")

    assert [line[0] for line in shown(*(make.instance(instance=name, name=name) for name in names))] == list(names)


UNRESOLVED = make.incident(
    target=Target(kind=TargetKind.NONE, name="KubeNodeNotReady"), unresolved=True, phase=Phase.WAITING,
    reason=Reason.TARGET_UNRESOLVED, detail="label cluster=aks-weu fits no configured cluster",
)  # fmt: skip


def test_a_page_without_a_target_has_the_labels_that_say_where_the_trouble_is() -> None:
    """Who is called about a node that the alert's labels name and no cluster knows must not have to look for the node's name."""
    alert = make.instance(
        name="KubeNodeNotReady", labels={"alertname": "KubeNodeNotReady", "node": "vmss000003", "x": "y" * 9000}
    )

    told = render(UNRESOLVED, PAGE, opening=1, rules={}, instances=[alert], now=make.NOON, base_url="https://r")

    assert "node=vmss000003" in told.alerts[0]
    assert len(told.alerts[0]) < LABELS_SHOWN + 200
    assert "Take over" in told.asks


def test_a_page_says_what_is_asked_of_whoever_is_called_when_nothing_goes_on_by_itself() -> None:
    """Exhausted means that a person has it now."""
    done = make.incident(phase=Phase.EXHAUSTED, reason=Reason.EXHAUSTED)

    told = render(done, PAGE, opening=1, rules={}, instances=(), now=make.NOON, base_url="")

    assert "Take over" in told.asks
    assert render(make.incident(), PAGE, opening=1, rules={}, instances=(), now=make.NOON, base_url="").asks == ""


def test_what_is_over_asks_nobody_to_acknowledge_it() -> None:
    """A report of a recovery links to the report; there is nothing left to have."""
    over = make.incident(phase=Phase.RECOVERED, reason=Reason.RECOVERED)

    told = render(over, PAGE, opening=1, rules={}, instances=(), now=make.NOON, base_url="https://r")

    assert [name for name, _ in told.links] == ["Report"]


def test_the_page_of_a_storm_sends_people_to_the_common_cause() -> None:
    """Not to each of its incidents: nothing is written to them, and they go on by themselves."""
    storm = make.incident(phase=Phase.EXHAUSTED, reason=Reason.STORM)

    told = render(storm, PAGE, opening=1, rules={}, instances=(), now=make.NOON, base_url="")

    assert told.asks.startswith("Look for what they have in common")
