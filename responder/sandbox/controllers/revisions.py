"""ControllerRevisions: the history of StatefulSets and DaemonSets. Source: ``pkg/controller/history``."""

from __future__ import annotations

from responder.sandbox.answers import Object
from responder.sandbox.deleting import delete
from responder.sandbox.kinds import REVISIONS
from responder.sandbox.objects import Storage, clone
from responder.sandbox.pods import owner, template_hash

HASH = "controller-revision-hash"


def kept(storage: Storage, item: Object) -> Object:
    """Return the revision of an object's template as it is now; made when it is new, made newest when it is an old one again."""
    meta = item["metadata"]
    digest = template_hash(item["spec"]["template"])
    name = f"{meta['name']}-{digest}"
    newest = max((one["revision"] for one in storage.owned(REVISIONS, meta["uid"])), default=0)
    found = storage.find(REVISIONS, meta["namespace"], name)
    if found is None:
        label = HASH if item["kind"] == "DaemonSet" else "controller.kubernetes.io/hash"
        body = {
            "metadata": {
                "namespace": meta["namespace"],
                "name": name,
                "labels": {**(item["spec"]["template"]["metadata"].get("labels") or {}), label: digest},
                "annotations": dict(meta.get("annotations") or {}),
                "ownerReferences": owner(item),
            },
            "revision": newest + 1,
            "data": {"spec": {"template": {**clone(item["spec"]["template"]), "$patch": "replace"}}},
        }
        found = storage.create(REVISIONS, body)
        _forget(storage, item, name)
    elif found["revision"] < newest:
        changed = clone(found)
        changed["revision"] = newest + 1
        found = storage.update(REVISIONS, found, changed)
    return found


def template_of(revision: Object) -> Object:
    """Return the pod template that a revision holds."""
    template = clone(revision["data"]["spec"]["template"])
    template.pop("$patch", None)
    return dict(template)


def _forget(storage: Storage, item: Object, current: str) -> None:
    limit = item["spec"].get("revisionHistoryLimit", 10)
    status = item.get("status") or {}
    live = {current, status.get("currentRevision"), status.get("updateRevision")}
    old = [one for one in storage.owned(REVISIONS, item["metadata"]["uid"]) if one["metadata"]["name"] not in live]
    for one in sorted(old, key=lambda one: int(one["revision"]))[: max(0, len(old) - limit)]:
        delete(storage, REVISIONS, one)
