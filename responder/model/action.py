"""Actions as values: a plan of absolute values, the writes it leads to, and what came of it.

Never here: how a write is sent (``clusters``) or which actions exist (``actions``).

The decision a reader would question: a plan stores absolute values ("5 → 6"), UIDs and what was there before, never a
difference. After a crash the world is looked at again and compared with the plan; a difference could be applied twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from responder.model.reason import Reason
from responder.model.target import Target

COMMAND_ANNOTATION = "responder/command"
"""Where an object can hold the key of the command that last changed it. Source: ARCHITECTURE.md "Act once"."""

CORDON_ANNOTATION = "responder/cordoned-for"
"""On a node that we cordoned: for which incident and since when. Only a cordon with our mark is ever lifted (kubernetes.md A4)."""

OUT_OF_SERVICE_ANNOTATION = "responder/out-of-service-for"
"""The same for the out-of-service taint."""


class Outcome(StrEnum):
    """What came of a rung or action. Source: STYLE.md, vocabulary."""

    DONE = "done"
    ALREADY_SO = "already_so"
    REFUSED = "refused"
    REJECTED = "rejected"
    STOPPED = "stopped"
    FAILED = "failed"
    GONE = "gone"
    CANNOT_BE_KNOWN = "cannot_be_known"


class Verb(StrEnum):
    """What a write does to an object."""

    PATCH = "patch"
    DELETE = "delete"
    EVICT = "evict"
    CREATE = "create"
    POOL = "pool"
    DELETE_MACHINE = "delete_machine"
    CLUSTER_START = "cluster_start"
    CLUSTER_ABORT = "cluster_abort"
    CLUSTER_RECONCILE = "cluster_reconcile"

    @property
    def of_cloud(self) -> bool:
        """It goes to the cloud's API and not to the cluster's."""
        return self in _OF_CLOUD


_OF_CLOUD = frozenset({Verb.POOL, Verb.DELETE_MACHINE, Verb.CLUSTER_START, Verb.CLUSTER_ABORT, Verb.CLUSTER_RECONCILE})


class PatchKind(StrEnum):
    """Content types of a patch. Source: Kubernetes API conventions."""

    STRATEGIC = "application/strategic-merge-patch+json"
    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One change of the outside world.

    Attributes:
        key: Names this write within its command, such as ``restart`` or ``delete shop/api-1``; the same write has the same key.
        verb: What is done. Verbs of the cloud: ``name`` is the pool (``plural`` agentPools) or "" (``plural`` managedClusters), ``resource_version``
            the ETag, ``body`` the absolute values.
        api: Group and version, such as ``v1`` or ``apps/v1``.
        plural: Such as ``pods`` or ``deployments``.
        namespace, name: Of the object.
        uid: Precondition: only the object with this UID; "" for none (patches carry it in their body instead).
        resource_version: Precondition where the verb allows one; "" for none.
        body: JSON value to send; None for none.
        patch: Content type of a patch.
        at_most_once: It cannot be seen whether it took effect: once it may have begun, it is never sent again.
        says: For the audit trail and people, such as "restart Deployment shop/api (annotation restartedAt)".
        takes_back: It takes away what this very action set: a target that is healthy by now does not stop it.
    """

    key: str
    verb: Verb
    api: str
    plural: str
    namespace: str
    name: str
    uid: str = ""
    resource_version: str = ""
    body: Any = None
    patch: PatchKind = PatchKind.STRATEGIC
    at_most_once: bool = False
    says: str
    takes_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to write now; look again after ``again_in``.

    Attributes:
        refuses: When the rung's time ends in this wait, it is refused for this reason instead of failed: what was blocked must not lead to the
            next rung (RULES.md "A refusal stops"). The wait is told on the timeline. None for a wait that only takes time.
    """

    again_in: timedelta
    detail: str = ""
    refuses: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The action is over."""

    outcome: Outcome
    reason: Reason
    detail: str = ""


Step = Write | Wait | End


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that must be given back. Stored with the intention, outlives the incident.

    Attributes:
        field: Such as ``spec.minReplicas`` of the object that ``target`` names.
        before, after: JSON values; given back only while the field still is ``after``.
        undo: The write that gives it back.
        until: ``rung`` when a rung that does not end done gives it back at once; ``step`` when a later step of the rung gives it back, and this is for
            when that is not reached, so that any rung's end settles it; ``incident`` when it stays until recovery or close.
    """

    target: str
    field: str
    before: Any
    after: Any
    undo: Write
    until: str = "incident"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an action will do, in absolute values.

    Attributes:
        action: Its name in the catalogue.
        arguments: As in the rule, substituted.
        command: Key of the command, unique per incident, opening, rung and attempt; written to objects that can hold it.
        target: What is acted on, with its UID.
        generation: ``metadata.generation`` of the target when planned; 0 when it has none.
        values: The action's own absolute values and what was there before; JSON.
        diff: For people and approval: lines such as ``spec.replicas: 5 → 6``.
        changes: What will have to be given back.
        writes_at_most: Bound on the number of writes.
        touches: Other targets that it takes hold of, such as the workloads whose pods a drain moves: they are claimed too.
        takes: How long it may need by itself (a drain: its pods' longest grace period); the rung gets at least that.
    """

    action: str
    command: str
    target: Target
    generation: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    diff: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    writes_at_most: int = 1
    touches: tuple[Target, ...] = ()
    takes: timedelta = timedelta(0)

    def digest(self, rule: str) -> str:
        """Return what an approval is bound to: rule, target UID, generation and diff; not the command key nor the time."""
        said = [rule, self.action, self.target.identity, self.target.uid, self.generation, list(self.diff), dict(self.arguments)]
        return hashlib.blake2b(json.dumps(said, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An action will not do it, and why."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """One permission that an action's writes or reads need. Source: Kubernetes RBAC PolicyRule."""

    verb: str
    group: str
    resource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A write that was carried out, as the timeline records it. ``status`` is the HTTP status."""

    write: str
    says: str
    at: datetime
    status: int = 0
