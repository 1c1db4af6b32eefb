"""Who owns which field: ``managedFields``, and server-side apply with its conflicts.

A field set is a set of paths; a step of a path is ``f:name``, ``k:{"name":"api"}`` of a list that merges by keys, or ``v:"word"`` of a
set. Source: structured-merge-diff; kubernetes.md B2. Ours: the keys of lists are known by the names of their fields, not by a schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from responder.sandbox.answers import ApiFailure, Cause, Object
from responder.sandbox.objects import clone, stamp

Path = tuple[str, ...]
Fields = frozenset[Path]

KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",), "initContainers": ("name",), "ephemeralContainers": ("name",), "env": ("name",), "volumes": ("name",),
    "conditions": ("type",), "ownerReferences": ("uid",), "imagePullSecrets": ("name",), "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",), "hostAliases": ("ip",), "podIPs": ("ip",), "hostIPs": ("ip",), "addresses": ("type",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"), "secrets": ("name",), "schedulingGates": ("name",),
}  # fmt: skip
ATOMIC = {"selector", "nodeSelector", "matchLabels", "scaleTargetRef", "involvedObject", "targetRef", "labelSelector", "fieldsV1"}
"""Objects that are one value. A Service's selector as well as a LabelSelector."""
SETS = {"finalizers"}
NOT_OWNED = {"apiVersion", "kind"}
NOT_OWNED_META = {
    "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "managedFields", "selfLink", "generateName",
}  # fmt: skip


def _keys(field: str, one: Any) -> tuple[str, ...]:
    if field == "ports" and isinstance(one, dict):
        name = "containerPort" if "containerPort" in one else "port"
        return (name, "protocol")
    return KEYS.get(field, ())


def _step(field: str, one: Any) -> str:
    keys = _keys(field, one)
    values = {key: one.get(key, "TCP" if key == "protocol" else None) for key in keys}
    return "k:" + json.dumps(values, sort_keys=True, separators=(",", ":"))


def fields_of(item: Object) -> Fields:
    """Return the fields that an object sets, but for those that the server owns."""
    found: set[Path] = set()
    for name, value in item.items():
        if name in NOT_OWNED:
            continue
        if name == "metadata":
            for part, what in (value or {}).items():
                if part not in NOT_OWNED_META:
                    _walk(part, what, ("f:metadata", f"f:{part}"), found)
        else:
            _walk(name, value, (f"f:{name}",), found)
    return frozenset(found)


def _walk(field: str, value: Any, path: Path, found: set[Path]) -> None:
    if isinstance(value, dict) and field not in ATOMIC and value:
        for name, what in value.items():
            _walk(name, what, (*path, f"f:{name}"), found)
    elif isinstance(value, list) and value and all(isinstance(one, dict) and _keys(field, one) for one in value):
        for one in value:
            here = (*path, _step(field, one))
            found.add(here)
            for name, what in one.items():
                _walk(name, what, (*here, f"f:{name}"), found)
    elif isinstance(value, list) and field in SETS:
        found.update((*path, "v:" + json.dumps(one)) for one in value)
    else:
        found.add(path)


def rendered(fields: Iterable[Path]) -> Object:
    """Return a field set as ``fieldsV1`` writes it."""
    tree: Object = {}
    for path in sorted(fields):
        at = tree
        for step in path:
            at = at.setdefault(step, {})
        if path and path[-1].startswith("k:"):
            at.setdefault(".", {})
    return tree


def parsed(tree: Object, before: Path = ()) -> set[Path]:
    """Return the field set of a ``fieldsV1``."""
    found: set[Path] = set()
    for step, below in tree.items():
        if step == ".":
            found.add(before)
        elif below:
            found |= parsed(below, (*before, step))
        else:
            found.add((*before, step))
    return found


def value_at(item: Any, path: Path) -> Any:
    """Return what an object has at a path; None for nothing."""
    field = ""
    for step in path:
        if step.startswith("f:"):
            field = step[2:]
            item = item.get(field) if isinstance(item, dict) else None
        elif step.startswith("k:"):
            item = next((one for one in item or () if isinstance(one, dict) and _step(field, one) == step), None)
        else:
            word = json.loads(step[2:])
            item = word if word in (item or ()) else None
    return item


def shown(path: Path) -> str:
    """Return a path as conflicts name it: ``.spec.template.spec.containers[name="api"].image``."""
    words = []
    for step in path:
        if step.startswith("f:"):
            words.append(f".{step[2:]}")
        elif step.startswith("k:"):
            pairs = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(json.loads(step[2:]).items()))
            words.append(f"[{pairs}]")
        else:
            words.append(f"[={step[2:]}]")
    return "".join(words)


def _sections(item: Object, sub: str) -> Fields:
    """Return the fields of the part that a write to a (sub)resource may change."""
    fields = fields_of(item)
    if sub == "status":
        return frozenset(path for path in fields if path[0] == "f:status")
    return frozenset(path for path in fields if path[0] != "f:status")


def tracked(old: Object | None, new: Object, *, manager: str, sub: str, now: datetime) -> list[Object]:
    """Return the managedFields after an update or a patch: what changed is the writer's, and nobody else's."""
    before = _sections(old, sub) if old is not None else frozenset()
    after = _sections(new, sub)
    changed = {path for path in after if path not in before or value_at(old, path) != value_at(new, path)}
    gone = before - after
    entries = [clone(one) for one in (old or {}).get("metadata", {}).get("managedFields") or ()]
    if not changed and not gone:
        return entries
    kept = []
    mine = None
    for one in entries:
        fields = parsed(one["fieldsV1"]) - gone
        if (one["manager"], one["operation"], one.get("subresource", "")) == (manager, "Update", sub):
            mine = one
            one["fieldsV1"], one["time"] = rendered(fields | changed), stamp(now)
        else:
            one["fieldsV1"] = rendered(fields - changed)
        if one["fieldsV1"]:
            kept.append(one)
    if mine is None and changed:
        kept.append(_entry(new, manager, "Update", sub, changed, now))
    return kept


def _entry(item: Object, manager: str, operation: str, sub: str, fields: Iterable[Path], now: datetime) -> Object:
    entry = {
        "manager": manager, "operation": operation, "apiVersion": item["apiVersion"], "time": stamp(now), "fieldsType": "FieldsV1",
        "fieldsV1": rendered(fields),
    }  # fmt: skip
    return {**entry, **({"subresource": sub} if sub else {})}


def applied(old: Object, wanted: Object, *, manager: str, force: bool, now: datetime) -> Object:
    """Apply what a manager wants: its fields are set, those that it set before and wants no longer go, if nobody else has them.

    Raises:
        ApiFailure: 409 with a cause a field that another manager set to something else, unless forced.
    """
    mine = fields_of(wanted)
    entries = [clone(one) for one in old["metadata"].get("managedFields") or ()]
    others = [one for one in entries if (one["manager"], one["operation"]) != (manager, "Apply")]
    before = {path for one in entries if one not in others for path in parsed(one["fieldsV1"])}
    conflicts = [
        (one, path)
        for one in others
        for path in sorted(parsed(one["fieldsV1"]))
        if path in mine and not path[-1].startswith("k:") and value_at(old, path) != value_at(wanted, path)
    ]
    if conflicts and not force:
        raise _conflict(conflicts)
    for one in others:
        lost = {path for who, path in conflicts if who is one}
        one["fieldsV1"] = rendered(parsed(one["fieldsV1"]) - lost)
    shared = {path for one in others for path in parsed(one["fieldsV1"])}
    result = _merged("", clone(old), wanted)
    for path in sorted(before - mine - shared, key=len, reverse=True):
        _drop(result, path)
    kept = [one for one in others if one["fieldsV1"]]
    known = next((one for one in entries if one not in others), None)
    entry = _entry(wanted, manager, "Apply", "", mine, now)
    if known is not None and known["fieldsV1"] == entry["fieldsV1"]:
        entry["time"] = known["time"]
    result["metadata"]["managedFields"] = [entry, *kept]
    return dict(result)


def _conflict(conflicts: list[tuple[Object, Path]]) -> ApiFailure:
    causes = [
        Cause(
            "FieldManagerConflict",
            f'conflict with "{one["manager"]}"' + _using(one),
            shown(path),
        )
        for one, path in conflicts
    ]
    count = len(causes)
    if count == 1:
        words = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    else:
        by_manager: dict[str, list[str]] = {}
        for cause in causes:
            by_manager.setdefault(cause.message.replace("conflict with", "conflicts with", 1), []).append(cause.field)
        listed = "\n".join(
            f"{message}:\n" + "\n".join(f"- {one}" for one in paths) for message, paths in sorted(by_manager.items())
        )
        words = f"Apply failed with {count} conflicts: {listed}"
    return ApiFailure(409, "Conflict", words, causes=causes)


def _using(entry: Object) -> str:
    if entry["operation"] == "Apply":
        return ""
    with_sub = f' with subresource "{entry["subresource"]}"' if entry.get("subresource") else ""
    return f"{with_sub} using {entry['apiVersion']}"


def _merged(field: str, target: Any, wanted: Any) -> Any:
    if isinstance(wanted, dict) and isinstance(target, dict) and field not in ATOMIC:
        for name, value in wanted.items():
            target[name] = _merged(name, target.get(name), value)
        return target
    keyed = (
        isinstance(wanted, list)
        and isinstance(target, list)
        and all(isinstance(one, dict) and _keys(field, one) for one in wanted)
    )
    if keyed and wanted:
        places = {_step(field, one): place for place, one in enumerate(target)}
        for one in wanted:
            step = _step(field, one)
            if step in places:
                target[places[step]] = _merged("", target[places[step]], one)
            else:
                target.append(clone(one))
        return target
    if field in SETS and isinstance(target, list):
        return [*target, *(one for one in wanted if one not in target)]
    return clone(wanted)


def _drop(item: Any, path: Path) -> None:
    """Take a field away, and what is empty then."""
    holder = value_at(item, path[:-1])
    last = path[-1]
    if last.startswith("f:") and isinstance(holder, dict):
        holder.pop(last[2:], None)
    elif isinstance(holder, list):
        field = path[-2][2:] if len(path) > 1 else ""
        word = json.loads(last[2:])
        for one in list(holder):
            if (last.startswith("k:") and _step(field, one) == last) or (last.startswith("v:") and one == word):
                holder.remove(one)
