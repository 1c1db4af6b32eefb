"""Reasons: the closed list of why anything was decided.

One word is the same in the audit record, the log line, the metric label and the page. ``SENTENCES`` says each to people.
Never here: a reason that is formatted at run time; numbers go into a detail beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Reason(StrEnum):
    """Why. Grouped as they come up in an incident's life."""

    # opening, joining, routing
    OPENED = "opened"
    JOINED = "joined"
    REPEATED = "repeated"
    SILENCED = "silenced"
    UNMATCHED = "unmatched"
    TEST_ALERT = "test_alert"
    NOT_UNDERSTOOD = "not_understood"
    NOT_ENTITLED = "not_entitled"
    TARGET_UNRESOLVED = "target_unresolved"
    MOVED = "moved"
    ARMED = "armed"
    # health and leading
    UNHEALTHY = "unhealthy"
    HEALTHY = "healthy"
    ALREADY_HEALTHY = "already_healthy"
    UNKNOWN = "unknown"
    WHEN_UNKNOWN = "when_unknown"
    WHEN_FALSE = "when_false"
    NO_RULE_FITS = "no_rule_fits"
    NO_LADDER = "no_ladder"
    CHECK_DISAGREES = "check_disagrees"
    # rungs
    ALLOWED = "allowed"
    SHADOW = "shadow"
    DONE = "done"
    ALREADY_SO = "already_so"
    FAILED = "failed"
    REFUSED = "refused"
    REJECTED = "rejected"
    STOPPED = "stopped"
    TARGET_GONE = "target_gone"
    CANNOT_BE_KNOWN = "cannot_be_known"
    BEGUN_TWICE = "begun_twice"
    NOT_PROVEN = "not_proven"
    RAN_ALREADY = "ran_already"
    EXHAUSTED = "exhausted"
    RECOVERED = "recovered"
    REOPENED = "reopened"
    # guards and limits
    WITHIN_LIMITS = "within_limits"
    GROUP_WAIT = "group_wait"
    MAX_ACTIONS = "max_actions"
    IN_FLIGHT = "in_flight"
    SAME_SYMPTOM = "same_symptom"
    UNHEALTHY_NODES = "unhealthy_nodes"
    KEEP_READY = "keep_ready"
    GITOPS_OWNER = "gitops_owner"
    OUT_OF_SCOPE = "out_of_scope"
    HANDS_OFF = "hands_off"
    FOREIGN_ACTIVITY = "foreign_activity"
    ANOTHER_HAND = "another_hand"
    CONTAINED = "contained"
    STORM = "storm"
    CONTROL_PLANE_DOUBT = "control_plane_doubt"
    OWN_CLUSTER = "own_cluster"
    STALE_READING = "stale_reading"
    # an action's own refusals
    WORKLOAD_PAUSED = "workload_paused"
    ON_DELETE_STRATEGY = "on_delete_strategy"
    QUOTA_EXCEEDED = "quota_exceeded"
    CAUSE_NOT_CURABLE = "cause_not_curable"
    STARTING = "starting"
    NO_HEALTHY_REVISION = "no_healthy_revision"
    HISTORY_TOO_SHORT = "history_too_short"
    IMAGE_TOO_OLD = "image_too_old"
    LAST_READY_REPLICA = "last_ready_replica"
    BARE_POD = "bare_pod"
    JOB_POD = "job_pod"
    NO_FAILING_POD = "no_failing_pod"
    KIND_NOT_SUPPORTED = "kind_not_supported"
    AUTOSCALED = "autoscaled"
    NEEDS_FREEZE = "needs_freeze"
    BUDGET_BLOCKS = "budget_blocks"
    DRAIN_BLOCKED = "drain_blocked"
    MACHINE_NOT_OFF = "machine_not_off"
    CLOUD_STATE = "cloud_state"
    CLOUD_QUOTA = "cloud_quota"
    POOL_AT_MAXIMUM = "pool_at_maximum"
    LAST_SYSTEM_NODES = "last_system_nodes"
    NOT_DRAINED = "not_drained"
    OPERATION_TOO_YOUNG = "operation_too_young"
    ARGUMENT_MISSING = "argument_missing"
    FORBIDDEN = "forbidden"
    # people
    APPROVAL = "approval"
    APPROVED = "approved"
    APPROVAL_EXPIRED = "approval_expired"
    PLAN_CHANGED = "plan_changed"
    ACKNOWLEDGED = "acknowledged"
    PAUSED = "paused"
    RESUMED = "resumed"
    NOTED = "noted"
    REPAIRED = "repaired"
    UNREADABLE = "unreadable"
    STORE_DOWN = "store_down"
    CLOSED_BY_PERSON = "closed_by_person"
    # stops
    KILL_SWITCH = "kill_switch"
    DISARMED = "disarmed"
    LEASE_LOST = "lease_lost"
    # ends and people on the line
    QUIET = "quiet"
    STORM_OVER = "storm_over"
    STUCK = "stuck"
    LEVEL_DUE = "level_due"
    UNDELIVERED = "undelivered"


SENTENCES: Mapping[Reason, str] = {
    Reason.OPENED: "an alert opened the incident",
    Reason.JOINED: "another alert for the same target joined",
    Reason.REPEATED: "the sender repeated an alert that is already known",
    Reason.SILENCED: "a silence covers the alert",
    Reason.UNMATCHED: "no rule matches the alert",
    Reason.TEST_ALERT: "the sender's test: received, never acted on",
    Reason.NOT_UNDERSTOOD: "the delivery is valid JSON of a shape we do not know; it is kept and listed",
    Reason.NOT_ENTITLED: "its sender may not speak for what the alert is about; it is kept and listed, never acted on",
    Reason.TARGET_UNRESOLVED: "the alert does not name one thing that exists",
    Reason.MOVED: "the cluster answered and the target is another one; its alerts were routed again",
    Reason.ARMED: "the rule was armed; the shadow incident ends and its alerts are routed again",
    Reason.UNHEALTHY: "the target is unhealthy",
    Reason.HEALTHY: "the target is healthy",
    Reason.ALREADY_HEALTHY: "the target is healthy, so nothing is done to it",
    Reason.UNKNOWN: "health could not be read; unknown is not permission",
    Reason.WHEN_UNKNOWN: "a condition (when) needs a fact that could not be read",
    Reason.WHEN_FALSE: "its condition (when) is false",
    Reason.NO_RULE_FITS: "the target is unhealthy but no matching rule's condition (when) is true",
    Reason.NO_LADDER: "the rule has no ladder: evidence and a page",
    Reason.CHECK_DISAGREES: "the alert still fires although the checks are healthy",
    Reason.ALLOWED: "unhealthy, and every limit allows the rung",
    Reason.SHADOW: "the rule is in shadow: this is what it would have done",
    Reason.DONE: "carried out",
    Reason.ALREADY_SO: "the target was already as the action would make it",
    Reason.FAILED: "the action failed",
    Reason.REFUSED: "the action or a limit refused",
    Reason.REJECTED: "a person rejected it",
    Reason.STOPPED: "stopped before its next write",
    Reason.TARGET_GONE: "the target no longer exists",
    Reason.CANNOT_BE_KNOWN: "it may have begun before a crash and cannot be observed; a person decides",
    Reason.BEGUN_TWICE: "the rung began twice without ending; a person decides",
    Reason.NOT_PROVEN: "the rung ran but health was not proven within its time",
    Reason.RAN_ALREADY: "another rung of this incident already did this",
    Reason.EXHAUSTED: "no rung is left; people have it",
    Reason.RECOVERED: "healthy for the whole hold time",
    Reason.REOPENED: "unhealthy again while an alert fires",
    Reason.WITHIN_LIMITS: "every limit allows it",
    Reason.GROUP_WAIT: "too young: a storm may still show itself",
    Reason.MAX_ACTIONS: "the rule has acted as often as it may in this time",
    Reason.IN_FLIGHT: "another disruptive rung runs in the same scope",
    Reason.SAME_SYMPTOM: "too many targets share this symptom: a common cause",
    Reason.UNHEALTHY_NODES: "too many nodes are not Ready: a common cause",
    Reason.KEEP_READY: "too few ready replicas would be left",
    Reason.GITOPS_OWNER: "a GitOps owner would revert the change",
    Reason.OUT_OF_SCOPE: "the target is outside the configured scope",
    Reason.HANDS_OFF: "somebody marked it responder/hands-off",
    Reason.FOREIGN_ACTIVITY: "something else is at work on the target",
    Reason.ANOTHER_HAND: "another incident has its hand on the target",
    Reason.CONTAINED: "an incident for the thing that contains the target is open",
    Reason.STORM: "many at once: one parent incident has them",
    Reason.CONTROL_PLANE_DOUBT: "the control plane itself is in doubt",
    Reason.OWN_CLUSTER: "the rung would reach the cluster that hosts the responder",
    Reason.STALE_READING: "what was read is too old to act on",
    Reason.WORKLOAD_PAUSED: "the workload is paused",
    Reason.ON_DELETE_STRATEGY: "the update strategy is OnDelete: nothing would happen",
    Reason.QUOTA_EXCEEDED: "the namespace's quota leaves no room for the new pods",
    Reason.CAUSE_NOT_CURABLE: "this action cannot cure this cause",
    Reason.STARTING: "nothing fails, and pods are still starting",
    Reason.NO_HEALTHY_REVISION: "no earlier revision is known to have been healthy",
    Reason.HISTORY_TOO_SHORT: "a new revision would erase the last healthy one from the history",
    Reason.IMAGE_TOO_OLD: "the current revision ran well for too long to be the cause",
    Reason.LAST_READY_REPLICA: "it is the last ready replica",
    Reason.BARE_POD: "nothing would re-create the pod",
    Reason.JOB_POD: "the pod belongs to a Job: deleting it may repeat work",
    Reason.NO_FAILING_POD: "no failing pod was found",
    Reason.KIND_NOT_SUPPORTED: "the action does not work on this kind of object",
    Reason.AUTOSCALED: "an autoscaler owns the replica count",
    Reason.NEEDS_FREEZE: "scaling to zero needs freeze: true",
    Reason.BUDGET_BLOCKS: "a disruption budget allows no eviction",
    Reason.DRAIN_BLOCKED: "a pod on the node may not be evicted",
    Reason.MACHINE_NOT_OFF: "there is no proof that the machine is off",
    Reason.CLOUD_STATE: "the cloud says that it is in no state for this",
    Reason.CLOUD_QUOTA: "the cloud has no room: quota, capacity or addresses are used up",
    Reason.POOL_AT_MAXIMUM: "the node pool is at its maximum",
    Reason.LAST_SYSTEM_NODES: "the last system nodes must stay",
    Reason.NOT_DRAINED: "the node is neither drained nor proven dead",
    Reason.OPERATION_TOO_YOUNG: "somebody else's operation is too young to be aborted",
    Reason.ARGUMENT_MISSING: "an argument of the action has no value",
    Reason.FORBIDDEN: "our identity lacks a permission",
    Reason.APPROVAL: "a person's approval is needed",
    Reason.APPROVED: "approved",
    Reason.APPROVAL_EXPIRED: "nobody approved in time; asked anew",
    Reason.PLAN_CHANGED: "the plan is no longer the one that was approved; asked anew",
    Reason.ACKNOWLEDGED: "a person has it",
    Reason.PAUSED: "a person paused the ladder",
    Reason.RESUMED: "a person let the ladder go on",
    Reason.NOTED: "a person left a note",
    Reason.STORE_DOWN: "our own store cannot be used",
    Reason.REPAIRED: "something was found out of order and put right",
    Reason.UNREADABLE: "what the store holds of it cannot be read: damaged, or a newer release's",
    Reason.CLOSED_BY_PERSON: "a person closed it",
    Reason.KILL_SWITCH: "the kill switch is off: no write of any kind",
    Reason.DISARMED: "the rule, cluster or whole installation is no longer armed",
    Reason.LEASE_LOST: "another replica has the incident now",
    Reason.QUIET: "recovered, and nothing fires any more",
    Reason.STORM_OVER: "the storm is over",
    Reason.STUCK: "waiting too long",
    Reason.LEVEL_DUE: "not acknowledged in time: the next level",
    Reason.UNDELIVERED: "no channel took the message",
}
"""One sentence a reason, for pages, reports and ``responder explain``."""
