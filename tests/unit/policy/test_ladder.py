"""The phase table: every cell is either a row or an error."""

from __future__ import annotations

import pytest

from responder.model.incident import Phase
from responder.policy.ladder import TRANSITIONS, IllegalTransitionError, LadderEvent, advance, diagram

CELLS = [(phase, event) for phase in Phase for event in LadderEvent]


@pytest.mark.parametrize(("phase", "event"), CELLS, ids=[f"{phase}-{event}" for phase, event in CELLS])
def test_every_cell_has_a_row_or_raises(phase: Phase, event: LadderEvent) -> None:
    """A pair without a row is a bug in us and never goes unnoticed."""
    if (phase, event) in TRANSITIONS:
        assert advance(phase, event) is TRANSITIONS[phase, event]
    else:
        with pytest.raises(IllegalTransitionError, match=f"{phase} on {event}"):
            advance(phase, event)


def test_recovered_is_reachable_from_every_phase_but_closed() -> None:
    """Whatever happened, health ends an incident; only closed is final."""

    def reachable(start: Phase) -> set[Phase]:
        seen, todo = {start}, [start]
        while todo:
            at = todo.pop()
            for (phase, _), after in TRANSITIONS.items():
                if phase is at and after not in seen:
                    seen.add(after)
                    todo.append(after)
        return seen

    assert all(Phase.RECOVERED in reachable(phase) for phase in Phase if phase is not Phase.CLOSED)
    assert reachable(Phase.CLOSED) == {Phase.CLOSED}


def test_a_person_can_close_from_every_phase() -> None:
    """Every phase but closed has a row for it."""
    assert all((phase, LadderEvent.CLOSED) in TRANSITIONS for phase in Phase if phase is not Phase.CLOSED)


def test_only_allowed_leads_to_acting() -> None:
    """No other event, from no phase, starts an action."""
    assert [cell for cell, after in TRANSITIONS.items() if after is Phase.ACTING] == [(Phase.OPEN, LadderEvent.ALLOWED)]


def test_the_diagram_holds_every_row() -> None:
    """The README's picture is made from the table."""
    assert all(f"{phase} --> {after}" in diagram() for (phase, _), after in TRANSITIONS.items())
