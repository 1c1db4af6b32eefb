"""Which revision is the way back, and what would erase it: shared by restart and rollback.

Source: kubernetes.md A6, "choosing the undo target"; A16 cases 28 and 33.
"""

from __future__ import annotations

from responder.model.cluster import RevisionSnapshot, WorkloadSnapshot


def last_healthy(workload: WorkloadSnapshot) -> RevisionSnapshot | None:
    """Return the newest revision with another template than the current one that was healthy; None when there is none."""
    others = [one for one in workload.revisions if one.template_digest != workload.template_digest and one.was_healthy]
    return max(others, key=lambda one: (one.number, one.created_at is not None and one.created_at.timestamp()), default=None)


def erased_by_restart(workload: WorkloadSnapshot) -> RevisionSnapshot | None:
    """Return the last healthy revision when one more revision would push it out of the history; None when it stays.

    A current template that was healthy itself is a way back of its own.
    """
    good = last_healthy(workload)
    if good is None or any(one.was_healthy and one.template_digest == workload.template_digest for one in workload.revisions):
        return None
    newest_first = sorted(workload.revisions, key=lambda one: one.number, reverse=True)
    return good if newest_first.index(good) >= workload.history_limit else None
