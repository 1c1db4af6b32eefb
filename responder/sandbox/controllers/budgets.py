"""What disruption budgets allow and what quotas have used. Source: kubernetes.md A2, A10; ``pkg/controller/disruption``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from responder.sandbox.answers import Object
from responder.sandbox.controllers.deployments import share
from responder.sandbox.kinds import BUDGETS, DEPLOYMENTS, KINDS, PODS, QUOTAS, REPLICA_SETS, STATEFUL_SETS
from responder.sandbox.objects import Storage, stamp
from responder.sandbox.pods import controller_of, is_finished, is_ready
from responder.sandbox.quantities import asked, number, written
from responder.sandbox.selectors import selects

DELETION_TIMEOUT = timedelta(minutes=2)
"""How long an eviction that was allowed and never happened is believed."""
SCALES = {"ReplicaSet": REPLICA_SETS, "Deployment": DEPLOYMENTS, "StatefulSet": STATEFUL_SETS}


def budgets(storage: Storage) -> None:
    """Count what each disruption budget allows."""
    for item in storage.all(BUDGETS):
        _count(storage, item)


def _count(storage: Storage, item: Object) -> None:
    spec, status, now = item["spec"], item.get("status") or {}, storage.now()
    pods = [
        pod
        for pod in storage.all(PODS, item["metadata"]["namespace"])
        if selects(spec.get("selector"), pod["metadata"].get("labels"))
    ]
    try:
        expected, needed = _needed(storage, spec, pods)
    except LookupError as error:
        failed = _condition(status, "SyncFailed", "False", str(error), item, now)
        made = {**status, "disruptionsAllowed": 0, "conditions": [failed]}  # and it never counts as seen
        storage.set_status(BUDGETS, item, made)
        return
    disrupted = _disrupted(pods, status.get("disruptedPods") or {}, now)
    healthy = sum(
        1
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp") and pod["metadata"]["name"] not in disrupted and is_ready(pod)
    )
    allowed = max(0, healthy - needed) if expected > 0 else 0
    condition = _condition(
        status, "SufficientPods" if allowed else "InsufficientPods", "True" if allowed else "False", "", item, now
    )
    storage.set_status(
        BUDGETS,
        item,
        {
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": needed,
            "expectedPods": expected,
            "observedGeneration": item["metadata"]["generation"],
            "conditions": [condition],
            **({"disruptedPods": disrupted} if disrupted else {}),
        },
    )


def _needed(storage: Storage, spec: Object, pods: list[Object]) -> tuple[int, int]:
    """Return how many pods are expected and how many must be healthy.

    Raises:
        LookupError: The count of a pod's controller is needed, and it has none.
    """
    minimum, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if most is not None:
        expected = _scale(storage, pods)
        return expected, max(0, expected - share(most, expected, "0", up=True))
    if isinstance(minimum, int):
        return len(pods), minimum
    if isinstance(minimum, str):
        expected = _scale(storage, pods)
        return expected, share(minimum, expected, "0", up=True)
    return len(pods), 0


def _scale(storage: Storage, pods: list[Object]) -> int:
    """Return the sum of what the controllers of these pods want."""
    found: dict[str, int] = {}
    for pod in pods:
        parent = controller_of(pod)
        if parent is None:
            continue
        known = storage.by_uid(parent["uid"])
        grand = controller_of(known[1]) if known is not None and known[0] == REPLICA_SETS else None
        if grand is not None:
            known = storage.by_uid(grand["uid"]) or known
        if known is None or known[1]["kind"] not in SCALES:
            group = parent["apiVersion"].rpartition("/")[0]
            raise LookupError(f"{parent['kind'].lower()}s.{group} does not implement the scale subresource")
        found[known[1]["metadata"]["uid"]] = int(known[1]["spec"].get("replicas", 1))
    return sum(found.values())


def _disrupted(pods: list[Object], known: Mapping[str, str], now: datetime) -> dict[str, str]:
    """Keep the evictions that were allowed and have not begun yet."""
    here = {pod["metadata"]["name"]: pod for pod in pods}
    return {
        name: at
        for name, at in known.items()
        if name in here
        and not here[name]["metadata"].get("deletionTimestamp")
        and now - datetime.fromisoformat(at) < DELETION_TIMEOUT
    }


def _condition(status: Object, reason: str, word: str, message: str, item: Object, now: datetime) -> Object:
    known = next((one for one in status.get("conditions") or () if one["type"] == "DisruptionAllowed"), None)
    since = known["lastTransitionTime"] if known is not None and known["status"] == word else stamp(now)
    return {
        "type": "DisruptionAllowed",
        "status": word,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
        "observedGeneration": item["metadata"]["generation"],
    }


# --- quotas


def quotas(storage: Storage) -> None:
    """Count what each quota has used."""
    for item in storage.all(QUOTAS):
        hard = item["spec"].get("hard") or {}
        used = usage(storage, item["metadata"]["namespace"], hard)
        storage.set_status(QUOTAS, item, {"hard": hard, "used": {name: written(used[name]) for name in hard}})


def usage(storage: Storage, namespace: str, names: Mapping[str, object]) -> Mapping[str, Decimal]:
    """Return how much of each resource a namespace uses, in cores, bytes and counts."""
    total: Counter[str] = Counter()
    for pod in storage.all(PODS, namespace):
        if not is_finished(pod):
            for name, value in charge(PODS, pod).items():
                total[name] += value  # type: ignore[assignment] # a Counter adds Decimals as well
    for name in names:
        kind = counted(name)
        if kind is not None and name != "pods":
            total[name] = Decimal(len(storage.all(kind, namespace)))  # type: ignore[assignment]
    return {name: Decimal(total[name]) for name in names}


def charge(kind: str, item: Object) -> Mapping[str, Decimal]:
    """Return what creating an object costs of a quota."""
    of = KINDS[kind]
    found = {f"count/{of.resource.qualified}": Decimal(1)}
    if of.group_version == "v1":
        found[of.plural] = Decimal(1)
    if kind == PODS:
        for what in ("requests", "limits"):
            found |= {f"{what}.{name}": value for name, value in asked(item["spec"], what).items()}
        found |= dict(asked(item["spec"]))
    return found


def counted(name: str) -> str | None:
    """Return the kind whose objects a quota's resource counts; None for an amount."""
    if name.startswith("count/"):
        plural, _, group = name.removeprefix("count/").partition(".")
        return next((kind.key for kind in KINDS.values() if (kind.plural, kind.group) == (plural, group)), None)
    key = f"v1/{name}"
    return key if key in KINDS else None


def exceeded(storage: Storage, kind: str, item: Object) -> str:
    """Return what a quota says against a new object, in the words of its admission; "" when nothing does."""
    cost = charge(kind, item)
    for quota in storage.all(QUOTAS, item["metadata"].get("namespace", "") or "-"):
        hard = quota["spec"].get("hard") or {}
        name = quota["metadata"]["name"]
        if kind == PODS:
            missing = sorted(
                one for one in hard if one.partition(".")[0] in {"requests", "limits", "cpu", "memory"} and one not in cost
            )
            if missing:
                containers = ", ".join(one["name"] for one in item["spec"]["containers"])
                return f"failed quota: {name}: must specify {'; '.join(f'{one} for: {containers}' for one in missing)}"
        concerned = sorted(one for one in hard if one in cost)
        used = usage(storage, item["metadata"]["namespace"], dict.fromkeys(concerned))
        over = [one for one in concerned if used[one] + cost[one] > number(hard[one])]
        if over:
            said = (",".join(f"{one}={value}" for one, value in pairs) for pairs in (
                [(one, written(cost[one])) for one in over], [(one, written(used[one])) for one in over], [(one, hard[one]) for one in over],
            ))  # fmt: skip
            requested, had, limited = said
            return f"exceeded quota: {name}, requested: {requested}, used: {had}, limited: {limited}"
    return ""
