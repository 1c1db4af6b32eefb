"""What a message holds, whatever an incident holds."""

from __future__ import annotations

from datetime import timedelta

from responder.model.alert import AlertStatus
from responder.model.incident import Instance, Tell
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.service.notices import ALERTS_SHOWN, render
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
