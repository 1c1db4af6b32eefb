"""Storage of objects with what the API server promises about them: UIDs, resource versions, generations, a history to watch.

An object that is stored is never changed in place: every change stores a new one. So lists, watches and histories share them
without copies; the one who wants to change one takes a ``clone``.
"""

from __future__ import annotations

import json
import marshal
import uuid
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from responder.sandbox.answers import ApiFailure, Object, already_exists, not_found
from responder.sandbox.kinds import EVENTS, KINDS, NAMESPACES, PODS

__all__ = ["KINDS", "ApiFailure", "Change", "Object", "Storage", "clone", "stamp"]

Key = tuple[str, str, str]
LETTERS = "bcdfghjklmnpqrstvwxz2456789"
KEPT = 10_000
"""How many changes of a kind are kept for watches."""


def clone(item: Any) -> Any:
    """Return a copy of a JSON value that shares nothing with it."""
    return marshal.loads(marshal.dumps(item))


def stamp(at: datetime) -> str:
    """Return a time as the API writes it: whole seconds, UTC."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def suffix(length: int = 5) -> str:
    """Return a random suffix of letters that spell no words, as generated names have."""
    return "".join(LETTERS[byte % len(LETTERS)] for byte in uuid.uuid4().bytes[:length])


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object. ``old``: what it was before; None when it is new."""

    version: int
    event: str
    item: Object
    old: Object | None


@dataclass(slots=True)
class _History:
    """The changes of one kind, oldest first. ``floor``: watches from before this version are too old."""

    changes: list[Change] = field(default_factory=list)
    floor: int = 0


class Storage:
    """All objects of the cluster."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._objects: dict[Key, Object] = {}
        self._kinds: dict[str, dict[Key, Object]] = defaultdict(dict)
        self._spaces: dict[tuple[str, str], dict[Key, Object]] = defaultdict(dict)
        self._dependents: dict[str, dict[Key, None]] = defaultdict(dict)
        self._on_node: dict[str, dict[Key, None]] = defaultdict(dict)
        self._uids: dict[str, Key] = {}
        self._histories: dict[str, _History] = defaultdict(_History)
        self._texts: dict[Key, tuple[str, bytes]] = {}
        self._events: dict[tuple[str, str, str], Key] = {}
        self._touched: dict[str, int] = {}
        self._version = 100
        self.now = now
        self.listeners: set[Callable[[], None]] = set()
        self.admit: Callable[[str, Object], Object] = lambda _kind, item: item

    # --- reading

    @property
    def version(self) -> str:
        """Return the newest resource version."""
        return str(self._version)

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return the stored object itself, or None."""
        return self._objects.get((kind, namespace, name))

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """Return the stored object itself.

        Raises:
            ApiFailure: 404.
        """
        found = self.find(kind, namespace, name)
        if found is None:
            raise not_found(KINDS[kind].resource, name)
        return found

    def all(self, kind: str, namespace: str = "") -> list[Object]:
        """Return the objects of a kind, in order of creation."""
        return list((self._spaces[kind, namespace] if namespace else self._kinds[kind]).values())

    def by_uid(self, uid: str) -> tuple[str, Object] | None:
        """Return the kind and the object that has a UID, or None."""
        key = self._uids.get(uid)
        return None if key is None else (key[0], self._objects[key])

    def owned(self, kind: str, uid: str) -> list[Object]:
        """Return the objects of a kind that an owner controls."""
        return [
            item
            for key in self._dependents.get(uid, ())
            if key[0] == kind
            for item in (self._objects[key],)
            if any(one.get("uid") == uid and one.get("controller") for one in item["metadata"]["ownerReferences"])
        ]

    def dependents(self, uid: str) -> list[tuple[str, Object]]:
        """Return kind and object of everything that names a UID as an owner."""
        return [(key[0], self._objects[key]) for key in self._dependents.get(uid, ())]

    def touched(self, uid: str) -> int:
        """Return the version at which anything that an owner controls last changed; 0 for never."""
        return self._touched.get(uid, 0)

    def orphaned(self) -> list[str]:
        """Return the UIDs that objects name as their owner and that nothing has."""
        return [uid for uid, keys in self._dependents.items() if keys and uid not in self._uids]

    def on_node(self, name: str) -> list[Object]:
        """Return the pods that are bound to a node, the terminating and the finished too."""
        return [self._objects[key] for key in self._on_node.get(name, ())]

    def text(self, kind: str, item: Object) -> bytes:
        """Return an object's JSON, but for ``kind`` and ``apiVersion``, as lists have it; it is made once for each version."""
        key = key_of(kind, item)
        version = item["metadata"]["resourceVersion"]
        known = self._texts.get(key)
        if known is not None and known[0] == version:
            return known[1]
        bare = {name: value for name, value in item.items() if name not in {"kind", "apiVersion"}}
        made = json.dumps(bare, separators=(",", ":")).encode()
        if self._objects.get(key) is item:
            self._texts[key] = (version, made)
        return made

    # --- history

    def since(self, kind: str, version: int) -> list[Change] | None:
        """Return the changes of a kind after a version, oldest first; None when they are forgotten."""
        history = self._histories[kind]
        if version < history.floor:
            return None
        changes = history.changes
        return changes[bisect_right(changes, version, key=lambda one: one.version) :]

    def last_change(self, kinds: Iterable[str]) -> int:
        """Return the version of the newest change of any of these kinds; 0 for none."""
        return max((self._histories[kind].changes[-1].version for kind in kinds if self._histories[kind].changes), default=0)

    def compact(self) -> None:
        """Forget the history: every watch and every list that was begun before is too old."""
        for kind in KINDS:
            history = self._histories[kind]
            history.floor = self._version
            history.changes = history.changes[-1:]

    def _record(self, event: str, kind: str, item: Object, old: Object | None) -> None:
        for one in item["metadata"].get("ownerReferences") or ():
            self._touched[one.get("uid", "")] = self._version
        history = self._histories[kind]
        history.changes.append(Change(self._version, event, item, old))
        if len(history.changes) > KEPT:
            history.floor = history.changes[KEPT // 4 - 1].version
            del history.changes[: KEPT // 4]
        for listener in tuple(self.listeners):
            listener()

    # --- writing

    def create(self, kind: str, item: Object) -> Object:
        """Store a new object.

        Raises:
            ApiFailure: 409 when the name is taken.
        """
        of = KINDS[kind]
        item = clone(item)
        meta = item.setdefault("metadata", {})
        if "name" not in meta:
            meta["name"] = meta.get("generateName", "unnamed-") + suffix()
        if not of.namespaced:
            meta.pop("namespace", None)
        key = key_of(kind, item)
        if key in self._objects:
            raise already_exists(of.resource, meta["name"])
        self._version += 1
        meta |= {"uid": str(uuid.uuid4()), "resourceVersion": self.version, "creationTimestamp": stamp(self.now())}
        if of.generation:
            meta["generation"] = 1
        item.setdefault("apiVersion", of.group_version)
        item.setdefault("kind", of.kind)
        if of.status:
            item.setdefault("status", {})
        self._put(key, item, None)
        self._record("ADDED", kind, item, None)
        return item

    def update(self, kind: str, old: Object, new: Object) -> Object:
        """Replace an object; the generation rises when the spec changed. Nothing happens when nothing changed.

        What has a deletion timestamp and lost its last finalizer goes for good, once it needs no more grace.
        """
        kept = old["metadata"]
        meta = new["metadata"]
        for name in ("uid", "creationTimestamp", "name", "namespace", "resourceVersion", "generation", "generateName"):
            if name in kept:
                meta[name] = kept[name]
        if new == old:
            return old
        if "generation" in kept and (
            new.get("spec") != old.get("spec") or ("deletionTimestamp" in meta and "deletionTimestamp" not in kept)
        ):
            meta["generation"] = kept["generation"] + 1
        going = meta.get("deletionTimestamp") and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds")
        if going and kind != NAMESPACES:
            self.remove(kind, old)
            return new
        self._version += 1
        meta["resourceVersion"] = self.version
        self._put(key_of(kind, new), new, old)
        self._record("MODIFIED", kind, new, old)
        return new

    def set_status(self, kind: str, item: Object, status: Object) -> Object:
        """Replace the status of an object if it changed."""
        if item.get("status") == status:
            return item
        return self.update(kind, item, {**item, "metadata": dict(item["metadata"]), "status": status})

    def replace(self, kind: str, old: Object, new: Object) -> Object:
        """Store another state of an object as it is, whatever its finalizers say."""
        self._version += 1
        new["metadata"]["resourceVersion"] = self.version
        self._put(key_of(kind, new), new, old)
        self._record("MODIFIED", kind, new, old)
        return new

    def backdate(self, kind: str, item: Object, by: timedelta) -> None:
        """Let an object be older than it is."""
        meta = item["metadata"]
        at = stamp(datetime.fromisoformat(meta["creationTimestamp"]) - by)
        self.replace(kind, item, {**item, "metadata": {**meta, "creationTimestamp": at}})

    def remove(self, kind: str, item: Object) -> None:
        """Remove an object at once; what it owns is collected by the garbage collector."""
        key = key_of(kind, item)
        old = self._objects.pop(key, None)
        if old is None:
            return
        self._kinds[kind].pop(key, None)
        self._spaces[kind, key[1]].pop(key, None)
        self._texts.pop(key, None)
        self._uids.pop(old["metadata"]["uid"], None)
        self._touched.pop(old["metadata"]["uid"], None)
        self._unlink(key, old)
        if kind == EVENTS:
            self._events.pop(_same(old), None)
        self._version += 1
        last = {**old, "metadata": {**old["metadata"], "resourceVersion": self.version}}
        self._record("DELETED", kind, last, old)

    def _put(self, key: Key, item: Object, old: Object | None) -> None:
        if old is not None:
            self._unlink(key, old)
        self._objects[key] = item
        self._kinds[key[0]][key] = item
        self._spaces[key[0], key[1]][key] = item
        self._uids[item["metadata"]["uid"]] = key
        for one in item["metadata"].get("ownerReferences") or ():
            self._dependents[one.get("uid", "")][key] = None
        if key[0] == PODS and item["spec"].get("nodeName"):
            self._on_node[item["spec"]["nodeName"]][key] = None
        if key[0] == EVENTS:
            self._events[_same(item)] = key

    def _unlink(self, key: Key, old: Object) -> None:
        for one in old["metadata"].get("ownerReferences") or ():
            mine = self._dependents.get(one.get("uid", ""))
            if mine is not None:
                mine.pop(key, None)
                if not mine:
                    del self._dependents[one.get("uid", "")]
        if key[0] == PODS and old["spec"].get("nodeName"):
            self._on_node[old["spec"]["nodeName"]].pop(key, None)

    def event(self, about: Object, reason: str, message: str, *, kind: str = "Normal", by: str = "sandbox") -> None:
        """Record an Event; the same one again raises its count."""
        meta = about["metadata"]
        namespace = meta.get("namespace", "default")
        now = stamp(self.now())
        known = self._events.get((meta["uid"], reason, message))
        if known is not None:
            found = self._objects[known]
            changed = {**found, "metadata": dict(found["metadata"]), "count": found.get("count", 1) + 1, "lastTimestamp": now}
            self.update(EVENTS, found, changed)
            return
        involved = {"kind": about["kind"], "apiVersion": about["apiVersion"], "name": meta["name"], "uid": meta["uid"]}
        if "namespace" in meta:
            involved["namespace"] = meta["namespace"]
        self.create(
            EVENTS,
            {
                "metadata": {"namespace": namespace, "name": f"{meta['name']}.{uuid.uuid4().hex[:16]}"},
                "involvedObject": involved,
                "type": kind,
                "reason": reason,
                "message": message,
                "source": {"component": by},
                "reportingComponent": by,
                "reportingInstance": "",
                "count": 1,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "eventTime": None,
            },
        )


def key_of(kind: str, item: Object) -> Key:
    """Return where an object lives."""
    meta = item["metadata"]
    return kind, meta.get("namespace", "") if KINDS[kind].namespaced else "", meta["name"]


def _same(event: Object) -> tuple[str, str, str]:
    return (event.get("involvedObject") or {}).get("uid", ""), event.get("reason", ""), event.get("message", "")
