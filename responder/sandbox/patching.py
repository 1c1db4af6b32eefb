"""Merge patch (RFC 7396), JSON patch (RFC 6902) and strategic merge patch. Source: kubernetes.md B2; apimachinery ``strategicpatch``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from responder.sandbox.answers import ApiFailure, bad_request
from responder.sandbox.objects import clone

MERGE_KEYS = {
    "containers": "name", "initContainers": "name", "ephemeralContainers": "name", "env": "name", "volumes": "name", "conditions": "type",
    "ownerReferences": "uid", "imagePullSecrets": "name", "volumeMounts": "mountPath", "volumeDevices": "devicePath", "hostAliases": "ip",
    "podIPs": "ip", "hostIPs": "ip", "addresses": "type", "topologySpreadConstraints": "topologyKey", "secrets": "name",
    "resourceClaims": "name", "schedulingGates": "name", "readinessGates": "conditionType",
}  # fmt: skip
"""Lists of objects that merge by a key. All others are replaced: taints and tolerations above all."""
SETS = {"finalizers"}
"""Lists of words that merge as sets."""
PORT_KEYS = ("containerPort", "port")


def merge_key(field: str, items: Sequence[Any]) -> str:
    """Return the key that a list of objects merges by; "" for one that is replaced."""
    if field == "ports":
        return next((key for key in PORT_KEYS for one in items if isinstance(one, dict) and key in one), "")
    return MERGE_KEYS.get(field, "")


def merge(target: Any, patch: Any) -> Any:
    """Apply a merge patch."""
    if not isinstance(patch, dict):
        return clone(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def strategic(target: Any, patch: Any) -> Any:
    """Apply a strategic merge patch to an object; ``$patch``, ``$deleteFromPrimitiveList``, ``$setElementOrder`` and ``$retainKeys`` are known."""
    if not isinstance(patch, dict):
        return clone(patch)
    directive = patch.get("$patch")
    if directive == "replace":
        return clone({name: value for name, value in patch.items() if name != "$patch"})
    if directive == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        result = {name: value for name, value in result.items() if name in patch["$retainKeys"]}
    for name, value in patch.items():
        if name.startswith("$"):
            word, _, field = name.partition("/")
            if word == "$deleteFromPrimitiveList":
                result[field] = [one for one in result.get(field) or () if one not in value]
            continue
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = strategic(result.get(name), value)
        elif isinstance(value, list) and isinstance(result.get(name), list):
            result[name] = _lists(name, result[name], value, patch.get(f"$setElementOrder/{name}"))
        elif isinstance(value, list):
            result[name] = [clone(one) for one in value if not (isinstance(one, dict) and "$patch" in one)]
        else:
            result[name] = value
    for name, order in patch.items():
        field = name.partition("/")[2]
        if name.startswith("$setElementOrder/") and field not in patch and isinstance(result.get(field), list):
            result[field] = _ordered(field, result[field], order)
    return result


def _lists(field: str, target: list[Any], patch: list[Any], order: list[Any] | None) -> list[Any]:
    if field in SETS:
        return _interleaved({one: one for one in [*target, *patch]}, target, patch)
    key = merge_key(field, [*patch, *target])
    if not key:
        return list(clone(patch))
    if any(one.get("$patch") == "replace" for one in patch):
        return [clone(one) for one in patch if "$patch" not in one]
    known = {one.get(key): one for one in target}
    named: list[Any] = []
    for one in patch:
        if key not in one:
            raise bad_request(f"map: {one} does not contain declared merge key: {key}")
        if one.get("$patch") == "delete":
            known.pop(one[key], None)
            continue
        known[one[key]] = strategic(known[one[key]], one) if one[key] in known else clone(one)
        named.append(one[key])
    if order is not None:
        wanted = [one[key] for one in order]
        if [one for one in wanted if one in named] != named:
            raise ApiFailure(500, "", f"The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")
        named = wanted
    return _interleaved(known, [one.get(key) for one in target], named)


def _ordered(field: str, items: list[Any], order: list[Any]) -> list[Any]:
    """Put what is named into the order that is wanted."""
    key = merge_key(field, items)
    if not key:
        return items
    return _interleaved({one.get(key): one for one in items}, [one.get(key) for one in items], [one.get(key) for one in order])


def _interleaved(items: dict[Any, Any], before: list[Any], named: list[Any]) -> list[Any]:
    """Return the items: those that the patch names in its order, the others where they were before. Source: ``mergeSortedSlice``."""
    right = [one for one in named if one in items]
    left = [one for one in before if one in items and one not in right]
    place = {value: number for number, value in enumerate(before)}
    merged = []
    while left or right:
        first = bool(left) and (not right or (right[0] in place and place[left[0]] < place[right[0]]))
        merged.append(items[left.pop(0) if first else right.pop(0)])
    return merged


def json_patch(target: Any, operations: Any) -> Any:
    """Apply a JSON patch.

    Raises:
        ApiFailure: 422 when an operation cannot be applied, a failing ``test`` above all, in the words of the API server.
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    document = clone(target)
    for operation in operations:
        try:
            document = _apply(document, operation)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise ApiFailure(422, "Invalid", "the server rejected our request due to an error in our request") from error
    return document


def _parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _at(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    op, path = operation["op"], _parts(operation["path"])
    if op in {"move", "copy"}:
        source = _parts(operation["from"])
        value = clone(_at(document, source))
        if op == "move":
            document = _apply(document, {"op": "remove", "path": operation["from"]})
        return _apply(document, {"op": "add", "path": operation["path"], "value": value})
    value = operation["value"] if op != "remove" else None
    if not path:
        if op == "test" and document != value:
            raise ValueError("test failed")
        return document if op == "test" else clone(value)
    holder, last = _at(document, path[:-1]), path[-1]
    key: Any = last
    if isinstance(holder, list):
        key = len(holder) if last == "-" else int(last)
    match op:
        case "test":
            if (holder.get(key) if isinstance(holder, dict) else holder[key]) != value:
                raise ValueError("test failed")
        case "add":
            if isinstance(holder, list):
                if key > len(holder):
                    raise IndexError(key)
                holder.insert(key, clone(value))
            else:
                holder[key] = clone(value)
        case "replace":
            if isinstance(holder, list):
                holder[key]
            holder[key] = clone(value)  # what is not there is added, as the API server's library does
        case "remove":
            del holder[key]
        case _:
            raise ValueError(op)
    return document
