"""Create, update, patch, apply, delete: optimistic concurrency, validation, who owns what. Source: kubernetes.md B2; apiserver ``registry/generic``."""

from __future__ import annotations

import json
from typing import Any

import yaml

from responder.sandbox import patching
from responder.sandbox.admission import defaulted
from responder.sandbox.answers import (
    ApiFailure,
    Cause,
    Object,
    Resource,
    bad_request,
    conflict,
    forbidden,
    invalid,
    modified,
)
from responder.sandbox.deleting import delete
from responder.sandbox.fields import applied, tracked
from responder.sandbox.kinds import JOBS, KINDS, NAMESPACES, PODS
from responder.sandbox.objects import Storage, clone, stamp, suffix
from responder.sandbox.requests import Answer, Asked, Where, said
from responder.sandbox.selectors import Selection
from responder.sandbox.validation import changes, problems, required

APPLY = "application/apply-patch+yaml"
PATCHES = {
    "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", APPLY,
}  # fmt: skip
KEPT_SPACES = {"default", "kube-system", "kube-public", "kube-node-lease"}


class Writing:
    """Writes the storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    # --- create

    def create(self, asked: Asked, where: Where, body: Any) -> Answer:
        """Store a new object."""
        kind, of = where.kind.key, where.kind.resource
        item = self._typed(where, body)
        meta = item["metadata"]
        if where.kind.namespaced:
            if not where.namespace:
                raise not_allowed()
            if meta.get("namespace", where.namespace) != where.namespace:
                raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
            meta["namespace"] = where.namespace
        if meta.get("resourceVersion"):
            raise ApiFailure(500, "", "resourceVersion should not be set on objects to be created")
        for name in (
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "managedFields",
        ):
            meta.pop(name, None)
        if not meta.get("name"):
            if not meta.get("generateName"):
                raise invalid(of, "", required("metadata.name", "name or generateName is required"))
            meta["name"] = meta["generateName"] + suffix()
        item = self._admitted(kind, item)
        managed = tracked(None, item, manager=asked.manager, sub="", now=self._storage.now())
        if managed:
            meta["managedFields"] = managed
        if asked.dry:
            self._free(where, meta["name"])
            return said(self._imagined(where, item), 201)
        return said(self._finished(kind, self._storage.create(kind, item)), 201)

    def _free(self, where: Where, name: str) -> None:
        if self._storage.find(where.kind.key, where.namespace if where.kind.namespaced else "", name) is not None:
            message = f'{where.kind.resource.qualified} "{name}" already exists'
            raise ApiFailure(409, "AlreadyExists", message)

    def _imagined(self, where: Where, item: Object) -> Object:
        meta = {
            **item["metadata"],
            "uid": "00000000-0000-0000-0000-000000000000",
            "creationTimestamp": stamp(self._storage.now()),
        }
        if where.kind.generation:
            meta["generation"] = 1
        return {"kind": where.kind.kind, "apiVersion": where.kind.group_version, **item, "metadata": meta}

    def _finished(self, kind: str, item: Object) -> Object:
        """Give a new Job what needs its UID."""
        if kind != JOBS or "selector" in item["spec"]:
            return item
        changed = clone(item)
        defaulted(kind, changed)
        return self._storage.update(kind, item, changed)

    def _admitted(self, kind: str, item: Object) -> Object:
        """Check an object and admit it: what is missing is said of it as it came, quotas are asked last."""
        self._checked(kind, item)
        return self._storage.admit(kind, item)

    def _checked(self, kind: str, item: Object) -> None:
        found = problems(kind, item)
        if found:
            raise invalid(KINDS[kind].resource, item["metadata"].get("name", ""), *found)

    def _typed(self, where: Where, body: Any) -> Object:
        """Return a body as an object of its kind."""
        if not isinstance(body, dict):
            raise bad_request(f"cannot unmarshal {type(body).__name__} into Go value of type {where.kind.kind}")
        version = body.get("apiVersion", where.kind.group_version)
        if version != where.kind.group_version or body.get("kind", where.kind.kind) != where.kind.kind:
            given, short = body.get("kind", where.kind.kind), version.rpartition("/")[2]
            internal = where.kind.group.partition(".")[0] or "core"
            raise bad_request(
                f'{given} in version "{short}" cannot be handled as a {where.kind.kind}: '
                f"converting ({short}.{given}) to ({internal}.{where.kind.kind}): unknown conversion"
            )
        item: Object = {**body, "apiVersion": where.kind.group_version, "kind": where.kind.kind}
        item["metadata"] = dict(body.get("metadata") or {})
        return dict(clone(item))

    # --- update and patch

    def update(self, asked: Asked, where: Where, body: Any) -> Answer:
        """Replace an object.

        Raises:
            ApiFailure: 409 for an old resourceVersion or another UID.
        """
        item = self._typed(where, body)
        if item["metadata"].get("name", where.name) != where.name:
            raise bad_request(
                f"the name of the object ({item['metadata'].get('name')}) does not match the name on the URL ({where.name})"
            )
        found = self._storage.get(where.kind.key, where.namespace, where.name)
        uid = item["metadata"].get("uid")
        if uid and uid != found["metadata"]["uid"]:
            key = "/".join(part for part in ("/registry", where.kind.plural, where.namespace, where.name) if part)
            why = (
                f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: "
                f"UID in precondition: {uid}, UID in object meta: {found['metadata']['uid']}"
            )
            raise conflict(where.kind.resource, where.name, why)
        if not item["metadata"].get("resourceVersion") and not where.kind.unconditional:
            cause = Cause("FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion")
            named_by_plural = Resource(group=where.kind.group, plural=where.kind.plural, kind=where.kind.plural)
            raise invalid(named_by_plural, where.name, cause)
        return self._store(asked, where, found, item)

    def patch(self, asked: Asked, where: Where, body: Any) -> Answer:
        """Patch an object, or apply one.

        Raises:
            ApiFailure: 415 for a patch of no known type, 409 for an old resourceVersion or another manager's field, 422 for a JSON
                patch whose ``test`` fails and for an object that would not be valid.
        """
        if asked.content_type == APPLY:
            return self._apply(asked, where, body)
        found = self._storage.get(where.kind.key, where.namespace, where.name)
        return self._store(asked, where, found, self.patched(asked, found, body))

    def patched(self, asked: Asked, found: Object, body: Any) -> Object:
        """Return what a patch makes of an object."""
        plain = clone(found)
        if asked.content_type == "application/json-patch+json":
            return dict(patching.json_patch(plain, body))
        if not isinstance(body, dict):
            raise bad_request("error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}")
        if asked.content_type == "application/merge-patch+json":
            return dict(patching.merge(plain, body))
        if asked.content_type == "application/strategic-merge-patch+json":
            return dict(patching.strategic(plain, body))
        raise unsupported()

    def _store(self, asked: Asked, where: Where, found: Object, changed: Object, *, sub: str = "") -> Answer:
        """Store a change: the status stays, or with ``sub`` nothing but the status moves."""
        kind, of = where.kind.key, where.kind.resource
        meta = changed.setdefault("metadata", {})
        version = meta.get("resourceVersion")
        if version and version != found["metadata"]["resourceVersion"]:
            raise modified(of, where.name)
        if sub == "status":
            changed = {**clone(found), "status": changed.get("status") or {}, "metadata": {**clone(found["metadata"])}}
        elif where.kind.status:
            changed["status"] = found.get("status") or {}
        meta = changed["metadata"]
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            meta.pop(name, None)
            if name in found["metadata"]:
                meta[name] = found["metadata"][name]
        if not sub:
            defaulted(kind, changed)
            wrong = [*problems(kind, changed), *changes(kind, found, changed)]
            if wrong:
                raise invalid(of, where.name, *wrong)
        self._tidy(meta)
        meta["managedFields"] = tracked(found, changed, manager=asked.manager, sub=sub, now=self._storage.now())
        if not meta["managedFields"]:
            del meta["managedFields"]
        if asked.dry:
            return said({**changed, "metadata": {**changed["metadata"], "resourceVersion": found["metadata"]["resourceVersion"]}})
        return said(self._storage.update(kind, found, changed))

    def status(self, asked: Asked, where: Where, body: Any) -> Answer:
        """Replace or patch the status of an object, and nothing else of it."""
        if not where.kind.status:
            raise no_resource()
        found = self._storage.get(where.kind.key, where.namespace, where.name)
        changed = self._typed(where, body) if asked.method == "PUT" else self.patched(asked, found, body)
        uid = (changed.get("metadata") or {}).get("uid")
        if uid and uid != found["metadata"]["uid"]:
            cause = Cause("FieldValueInvalid", f'Invalid value: "{uid}": field is immutable', "metadata.uid")
            raise invalid(where.kind.resource, where.name, cause, cause)
        return self._store(asked, where, found, changed, sub="status")

    def scaled(self, asked: Asked, where: Where, found: Object, changed: Object) -> Object:
        """Store a changed count of replicas, and whose field that is; return the object as it is then."""
        self._checked(where.kind.key, changed)
        managed = tracked(found, changed, manager=asked.manager, sub="scale", now=self._storage.now())
        changed["metadata"]["managedFields"] = managed
        return changed if asked.dry else self._storage.update(where.kind.key, found, changed)

    @staticmethod
    def _tidy(meta: Object) -> None:
        """Leave out what is empty, as the API's encoding does."""
        for name in ("labels", "annotations", "finalizers", "ownerReferences"):
            if name in meta and not meta[name]:
                del meta[name]

    # --- server-side apply

    def _apply(self, asked: Asked, where: Where, body: Any) -> Answer:
        if not asked.query.get("fieldManager"):
            cause = required("fieldManager", "is required for apply patch")
            raise invalid(Resource(group="meta.k8s.io", kind="PatchOptions"), "", cause)
        if not isinstance(body, dict) or not body.get("kind") or not body.get("apiVersion"):
            version = str((body or {}).get("apiVersion", "")) if isinstance(body, dict) else ""
            kind = str((body or {}).get("kind", "")) if isinstance(body, dict) else ""
            raise bad_request(f"invalid object type: {version if '/' in version else '/' + version}, Kind={kind}")
        wanted = self._typed(where, body)
        meta = wanted["metadata"]
        if meta.get("name", where.name) != where.name:
            raise bad_request(f"name in URL ({where.name}) does not match the name in the body ({meta['name']})")
        if meta.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        found = self._storage.find(where.kind.key, where.namespace, where.name)
        manager, force = asked.manager, asked.query.get("force") in {"true", "1"}
        if found is None:
            if meta.get("uid") or meta.get("resourceVersion"):
                raise conflict(
                    where.kind.resource,
                    where.name,
                    "uid mismatch: the provided object specified uid, and no existing object was found",
                )
            meta["name"] = where.name
            if where.kind.namespaced:
                meta["namespace"] = where.namespace
            item = self._admitted(where.kind.key, clone(wanted))
            blank = {"metadata": {}, "apiVersion": wanted["apiVersion"], "kind": wanted["kind"]}
            owned = applied(blank, wanted, manager=manager, force=force, now=self._storage.now())
            item["metadata"]["managedFields"] = owned["metadata"]["managedFields"]
            if asked.dry:
                return said(self._imagined(where, item), 201)
            return said(self._finished(where.kind.key, self._storage.create(where.kind.key, item)), 201)
        version = meta.get("resourceVersion")
        if version and version != found["metadata"]["resourceVersion"]:
            raise modified(where.kind.resource, where.name)
        wanted.pop("status", None)
        changed = applied(found, wanted, manager=manager, force=force, now=self._storage.now())
        defaulted(where.kind.key, changed)
        wrong = [*problems(where.kind.key, changed), *changes(where.kind.key, found, changed)]
        if wrong:
            raise invalid(where.kind.resource, where.name, *wrong)
        self._tidy(changed["metadata"])
        if asked.dry:
            return said(changed)
        return said(self._storage.update(where.kind.key, found, changed))

    # --- delete

    def delete(self, asked: Asked, where: Where, options: Any) -> Answer:
        """Delete an object.

        Raises:
            ApiFailure: 409 for another UID or resourceVersion than the preconditions say.
        """
        found = self._storage.get(where.kind.key, where.namespace, where.name)
        if where.kind.key == NAMESPACES and where.name in KEPT_SPACES:
            raise forbidden(where.kind.resource, where.name, "this namespace may not be deleted")
        preconditions(where.kind.resource, found, options.get("preconditions") or {})
        left = None if asked.dry else self._end(where.kind.key, found, asked, options)
        if left is not None:
            return said(left)
        if where.kind.returns:
            going = {"deletionTimestamp": stamp(self._storage.now()), "deletionGracePeriodSeconds": 0}
            return said({**found, "metadata": {**found["metadata"], **(going if where.kind.key == PODS else {})}})
        details = {"name": where.name, "group": where.kind.group, "kind": where.kind.plural, "uid": found["metadata"]["uid"]}
        return said(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": {name: value for name, value in details.items() if value},
            }
        )

    def _end(self, kind: str, found: Object, asked: Asked, options: Object) -> Object | None:
        """Delete, and return what is left; None when it is gone."""
        policy = options.get("propagationPolicy") or (not asked.body and asked.query.get("propagationPolicy")) or ""
        if not policy:
            policy = "Orphan" if options.get("orphanDependents") or kind == JOBS else "Background"
        grace = options.get("gracePeriodSeconds")
        if grace is None and not asked.body and asked.query.get("gracePeriodSeconds"):
            grace = int(asked.query["gracePeriodSeconds"])
        if kind == NAMESPACES:
            return self._leave(found)
        delete(self._storage, kind, found, grace=grace, propagation=policy)
        meta = found["metadata"]
        return self._storage.find(kind, meta.get("namespace", "") if KINDS[kind].namespaced else "", meta["name"])

    def _leave(self, found: Object) -> Object:
        """Let a namespace begin to go; its controller empties it."""
        if found["metadata"].get("deletionTimestamp"):
            return found
        changed = clone(found)
        changed["metadata"]["deletionTimestamp"] = stamp(self._storage.now())
        changed["metadata"]["finalizers"] = found["metadata"].get("finalizers") or []
        changed["status"]["phase"] = "Terminating"
        return self._storage.replace(NAMESPACES, found, changed)

    def delete_many(self, asked: Asked, where: Where, options: Any) -> Answer:
        """Delete a collection, or what is selected of it."""
        selection = Selection(where.kind.key, asked.query.get("labelSelector", ""), asked.query.get("fieldSelector", ""))
        found = [one for one in self._storage.all(where.kind.key, where.namespace) if selection.takes(one)]
        for one in found:
            if not asked.dry:
                self._end(where.kind.key, one, asked, options)
        meta = {"resourceVersion": self._storage.version}
        return said({"kind": f"{where.kind.kind}List", "apiVersion": where.kind.group_version, "metadata": meta, "items": found})


def read_body(asked: Asked) -> Any:
    """Return the body of a write; an apply may be YAML.

    Raises:
        ApiFailure: 400, or 415 for a type that is not read.
    """
    if asked.method == "PATCH" and asked.content_type not in PATCHES:
        raise unsupported()
    if asked.content_type in {APPLY, "application/yaml"}:
        try:
            return json.loads(asked.body)
        except ValueError:
            try:
                return yaml.safe_load(asked.body)
            except yaml.YAMLError as error:
                raise bad_request(f"error decoding YAML: {error}") from error
    return asked.json()


def preconditions(of: Resource, found: Object, asked: Object) -> None:
    """Refuse another UID or resourceVersion than the caller means.

    Raises:
        ApiFailure: 409.
    """
    meta = found["metadata"]
    named_by_kind = Resource(group=of.group, plural=of.kind, kind=of.kind)
    for name, word, happened in (
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ):
        wanted = asked.get(name)
        if wanted and wanted != meta[name]:
            why = f"the {word} in the precondition ({wanted}) does not match the {word} in record ({meta[name]})."
            raise conflict(named_by_kind, meta["name"], f"{why} The object might have been {happened}")


def unsupported() -> ApiFailure:
    """Return the 415 of a patch of no known type."""
    listed = ", ".join(sorted(PATCHES))
    return ApiFailure(
        415, "UnsupportedMediaType", f"the body of the request was in an unknown format - accepted media types include: {listed}"
    )


def not_allowed() -> ApiFailure:
    """Return the 405 of a method that a resource does not have."""
    return ApiFailure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def no_resource() -> ApiFailure:
    """Return the 404 of a path that is nothing."""
    return ApiFailure(404, "NotFound", "the server could not find the requested resource")
