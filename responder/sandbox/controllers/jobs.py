"""Jobs: pods until enough succeeded or too many failed. Source: kubernetes.md A14; ``pkg/controller/job``."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

from responder.sandbox.answers import ApiFailure, Object
from responder.sandbox.controllers.deployments import given
from responder.sandbox.deleting import delete
from responder.sandbox.kinds import JOBS, PODS
from responder.sandbox.objects import Storage, stamp
from responder.sandbox.pods import is_live, is_ready, new_pod


def jobs(storage: Storage) -> None:
    """Move every Job one step."""
    for item in storage.all(JOBS):
        _move(storage, item)


def _ended(item: Object) -> Object | None:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] in {"Complete", "Failed"} and one["status"] == "True"), None)


def _move(storage: Storage, item: Object) -> None:
    meta, spec = item["metadata"], item["spec"]
    now = storage.now()
    ended = _ended(item)
    if ended is not None:
        keeps = spec.get("ttlSecondsAfterFinished")
        since = datetime.fromisoformat(ended["lastTransitionTime"])
        if keeps is not None and now - since >= timedelta(seconds=keeps) and not meta.get("deletionTimestamp"):
            delete(storage, JOBS, item, propagation="Foreground")
        return
    if meta.get("deletionTimestamp"):
        return
    pods = storage.owned(PODS, meta["uid"])
    failed = sum(1 for pod in pods if pod["status"].get("phase") == "Failed")
    done = sum(1 for pod in pods if pod["status"].get("phase") == "Succeeded")
    active = [pod for pod in pods if is_live(pod)]
    needed = spec.get("completions", 1) or 1
    status = item.get("status") or {}
    started = status.get("startTime") or (None if spec.get("suspend") else stamp(now))
    verdict = _verdict(item, failed=failed, done=done, needed=needed, started=started, now=now)
    if verdict is not None or spec.get("suspend"):
        for pod in active:
            delete(storage, PODS, pod)
        active = []
    else:
        for _ in range(min(spec.get("parallelism", 1), needed - done) - len(active)):
            with contextlib.suppress(ApiFailure):
                new_pod(storage, item, labels={})
        active = [pod for pod in storage.owned(PODS, meta["uid"]) if is_live(pod)]
    made: Object = {"startTime": started, "active": len(active), "failed": failed, "succeeded": done}
    made["ready"] = sum(1 for pod in active if is_ready(pod))
    if verdict is not None:
        kind, reason, message = verdict
        at = stamp(now)
        told = {"status": "True", "reason": reason, "message": message, "lastProbeTime": at, "lastTransitionTime": at}
        first = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
        made["conditions"] = [{"type": first, **told}, {"type": kind, **told}]
        if kind == "Complete":
            made["completionTime"] = at
        storage.event(item, "Completed" if kind == "Complete" else reason, message or "Job completed", by="job-controller")
    storage.set_status(JOBS, item, given(made) | {"ready": made["ready"]})


def _verdict(
    item: Object, *, failed: int, done: int, needed: int, started: str | None, now: datetime
) -> tuple[str, str, str] | None:
    spec = item["spec"]
    if done >= needed:
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    if failed > spec.get("backoffLimit", 6):
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and started and now - datetime.fromisoformat(started) >= timedelta(seconds=deadline):
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    return None
