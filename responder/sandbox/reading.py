"""Get, list and watch: pages that stay consistent and expire, bookmarks, initial events, too old versions, tables.

Source: kubernetes.md B3; apimachinery ``ListOptions``; kubernetes API concepts, "Efficient detection of changes".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from responder.sandbox.answers import ApiFailure, Cause, Object, Resource, bad_request, invalid
from responder.sandbox.kinds import KINDS
from responder.sandbox.objects import Change, Storage
from responder.sandbox.requests import JSON, Answer, Asked, Stream, Where, said
from responder.sandbox.selectors import Selection
from responder.sandbox.tables import partial, table

TRUE = {"true", "1", "True"}
BOOKMARK_EVERY = 60.0
BOOKMARK_BEFORE_END = 2.0
WATCH_FOR = 1800.0
KEPT_LISTS = 64
"""How many lists that are being paged through are kept."""
TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue "
    "parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided "
    "token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was "
    "returned and now may show up in the list."
)


class Shape(Enum):
    """How objects are to be written."""

    WHOLE = "whole"
    TABLE = "table"
    METADATA = "metadata"


def shape_of(accept: str) -> Shape:
    """Return the first shape of an Accept header that is served here.

    Raises:
        ApiFailure: 406 when none is.
    """
    for one in accept.split(",") if accept.strip() else ["*/*"]:
        kind, *parameters = [part.strip() for part in one.split(";")]
        if kind not in {JSON, "application/*", "*/*"}:
            continue
        named = dict(part.partition("=")[::2] for part in parameters)
        match named.get("as"):
            case "Table":
                return Shape.TABLE
            case "PartialObjectMetadata" | "PartialObjectMetadataList":
                return Shape.METADATA
            case None:
                return Shape.WHOLE
            case _:
                continue
    accepted = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    raise ApiFailure(406, "NotAcceptable", f"only the following media types are accepted: {accepted}")


@dataclass(frozen=True, slots=True)
class _Token:
    """Where a list goes on. ``version``: of the list; -1 for whatever is there now."""

    version: int
    after: str

    def text(self) -> str:
        body = {"v": "meta.k8s.io/v1", "rv": self.version, "start": self.after}
        return base64.urlsafe_b64encode(json.dumps(body, separators=(",", ":")).encode()).decode().rstrip("=")


def _token(text: str) -> _Token:
    try:
        body = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return _Token(int(body["rv"]), str(body["start"]))
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise bad_request(f"continue key is not valid: {error}") from error


def _place(item: Object) -> str:
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def _list_options(field: str, why: str) -> ApiFailure:
    return invalid(
        Resource(group="meta.k8s.io", kind="ListOptions"), "", Cause("FieldValueForbidden", f"Forbidden: {why}", field)
    )


class Reading:
    """Reads the storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lists: OrderedDict[tuple[int, str, str, str, str], list[Object]] = OrderedDict()

    # --- one

    def get(self, asked: Asked, where: Where) -> Answer:
        """Answer with one object."""
        shape = shape_of(asked.headers.get("accept", ""))
        return self.shown(asked, where.kind.key, self._storage.get(where.kind.key, where.namespace, where.name), shape=shape)

    def shown(self, asked: Asked, kind: str, item: Object, *, shape: Shape = Shape.WHOLE) -> Answer:
        """Answer with an object in a shape."""
        if shape is Shape.TABLE:
            meta = {"resourceVersion": item["metadata"]["resourceVersion"]}
            include = asked.query.get("includeObject", "Metadata")
            return said(table(kind, [item], meta, self._storage.now(), include=include))
        if shape is Shape.METADATA:
            return said(partial(item))
        of = KINDS[kind]
        head = json.dumps({"kind": of.kind, "apiVersion": of.group_version}, separators=(",", ":"))
        return Answer(body=head[:-1].encode() + b"," + self._storage.text(kind, item)[1:])

    # --- many

    def page(self, asked: Asked, where: Where) -> Answer:
        """Answer with a list, or a page of one.

        Raises:
            ApiFailure: 410 for a continue token that is too old; it carries one that goes on with what is there now. 504 for a
                version that is not there yet.
        """
        shape = shape_of(asked.headers.get("accept", ""))
        labels, fields = asked.query.get("labelSelector", ""), asked.query.get("fieldSelector", "")
        selection = Selection(where.kind.key, labels, fields)
        limit = int(asked.query.get("limit") or 0)
        token = _token(asked.query["continue"]) if asked.query.get("continue") else None
        self._check_version(asked, token)
        version = int(self._storage.version) if token is None or token.version < 0 else token.version
        key = (version, where.kind.key, where.namespace, labels, fields)
        if token is None or token.version < 0:
            found = sorted((one for one in self._candidates(where, selection) if selection.takes(one)), key=_place)
        else:
            found = self._held(key, token)
        if token is not None:
            found = [one for one in found if _place(one) > token.after]
        meta: Object = {"resourceVersion": str(version)}
        page = found
        if limit and len(found) > limit:
            page = found[:limit]
            self._hold(key, found)
            meta["continue"] = _Token(version, _place(page[-1])).text()
            if selection.everything:
                meta["remainingItemCount"] = len(found) - limit
        return self._listed(asked, where, page, meta, shape)

    def _candidates(self, where: Where, selection: Selection) -> list[Object]:
        kind, namespace = where.kind.key, where.namespace
        if selection.node and kind == "v1/pods":
            return [one for one in self._storage.on_node(selection.node) if namespace in {"", one["metadata"]["namespace"]}]
        if selection.name and (namespace or not where.kind.namespaced):
            one = self._storage.find(kind, namespace, selection.name)
            return [] if one is None else [one]
        return self._storage.all(kind, namespace)

    def _check_version(self, asked: Asked, token: _Token | None) -> None:
        given, match = asked.query.get("resourceVersion", ""), asked.query.get("resourceVersionMatch", "")
        if match and not given:
            raise _list_options("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
        if token is not None and given not in {"", "0"}:
            raise bad_request("specifying resource version is not allowed when using continue")
        if given and not given.isdigit():
            raise bad_request(f'invalid resource version: strconv.ParseUint: parsing "{given}": invalid syntax')
        if given and int(given) > int(self._storage.version):
            message = f"Too large resource version: {given}, current: {self._storage.version}"
            cause = Cause("ResourceVersionTooLarge", "Too large resource version")
            raise ApiFailure(504, "Timeout", f"Timeout: {message}", causes=[cause], retry_after=1)

    def _hold(self, key: tuple[int, str, str, str, str], found: list[Object]) -> None:
        if key not in self._lists:
            self._lists[key] = found
            while len(self._lists) > KEPT_LISTS:
                self._lists.popitem(last=False)

    def _held(self, key: tuple[int, str, str, str, str], token: _Token) -> list[Object]:
        if self._storage.since(key[1], token.version) is None or key not in self._lists:
            self._lists.pop(key, None)
            raise ApiFailure(410, "Expired", TOO_OLD, meta={"continue": _Token(-1, token.after).text()})
        return self._lists[key]

    def _listed(self, asked: Asked, where: Where, page: list[Object], meta: Object, shape: Shape) -> Answer:
        kind = where.kind
        if shape is Shape.TABLE:
            include = asked.query.get("includeObject", "Metadata")
            return said(table(kind.key, page, meta, self._storage.now(), include=include))
        if shape is Shape.METADATA:
            items = [partial(one) for one in page]
            return said({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items})
        head = json.dumps({"kind": f"{kind.kind}List", "apiVersion": kind.group_version, "metadata": meta}, separators=(",", ":"))
        texts = b",".join(self._storage.text(kind.key, one) for one in page)
        return Answer(body=head[:-1].encode() + b',"items":[' + texts + b"]}")

    # --- changes

    def watch(self, asked: Asked, where: Where) -> Stream:
        """Answer with changes as they come.

        Raises:
            ApiFailure: 400 and 422 for options that cannot be.
        """
        shape = shape_of(asked.headers.get("accept", ""))
        selection = Selection(where.kind.key, asked.query.get("labelSelector", ""), asked.query.get("fieldSelector", ""))
        given, initial = asked.query.get("resourceVersion", ""), asked.query.get("sendInitialEvents", "")
        match = asked.query.get("resourceVersionMatch", "")
        if initial and match != "NotOlderThan":
            why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise _list_options("resourceVersionMatch", why)
        if match and not initial:
            raise _list_options(
                "resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            )
        if given and not given.isdigit():
            raise bad_request(f'Invalid value: "{given}": strconv.ParseUint: parsing "{given}": invalid syntax')
        return Stream(chunks=self._changes(asked, where, selection, shape))

    async def _changes(self, asked: Asked, where: Where, selection: Selection, shape: Shape) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        moved = asyncio.Event()
        writer = _Lines(self._storage, asked, where, selection, shape)
        bookmarks = asked.query.get("allowWatchBookmarks") in TRUE
        initial = asked.query.get("sendInitialEvents", "")
        seen = int(asked.query.get("resourceVersion") or 0)
        ends_at = loop.time() + float(asked.query.get("timeoutSeconds") or WATCH_FOR)
        marks = sorted({loop.time() + BOOKMARK_EVERY, max(loop.time(), ends_at - BOOKMARK_BEFORE_END)})
        self._storage.listeners.add(moved.set)
        try:
            if initial in TRUE or (not seen and initial not in {"false", "0"}):
                seen = int(self._storage.version)
                for item in sorted(self._candidates(where, selection), key=_place):
                    if selection.takes(item):
                        yield writer.line("ADDED", item)
                if initial in TRUE and bookmarks:
                    yield writer.bookmark(seen, ended=True)
            elif not seen:
                seen = int(self._storage.version)
            while loop.time() < ends_at:
                moved.clear()
                changes = self._storage.since(where.kind.key, seen)
                if changes is None:
                    message = f"too old resource version: {seen} ({self._storage.version})"
                    yield writer.error(ApiFailure(410, "Expired", message))
                    return
                for change in changes:
                    seen = change.version
                    line = writer.change(change)
                    if line:
                        yield line
                if bookmarks and loop.time() >= marks[0]:
                    seen = max(seen, int(self._storage.version))
                    yield writer.bookmark(seen)
                    marks = [*marks[1:], loop.time() + BOOKMARK_EVERY]
                    marks.sort()
                until = min(ends_at, marks[0]) if bookmarks else ends_at
                try:
                    async with asyncio.timeout_at(until):
                        await moved.wait()
                except TimeoutError:
                    continue
        finally:
            self._storage.listeners.discard(moved.set)


class _Lines:
    """Writes the lines of one watch."""

    def __init__(self, storage: Storage, asked: Asked, where: Where, selection: Selection, shape: Shape) -> None:
        self._storage, self._asked, self._where, self._selection, self._shape = storage, asked, where, selection, shape
        kind = where.kind
        self._head = json.dumps({"kind": kind.kind, "apiVersion": kind.group_version}, separators=(",", ":"))[:-1].encode()
        self._first = True

    def change(self, change: Change) -> bytes:
        """Return the line of a change; b"" for one that this watch does not see.

        What no longer matches the selectors is said to be deleted, what matches only now to be added.
        """
        namespace = self._where.namespace
        if namespace and change.item["metadata"].get("namespace") != namespace:
            return b""
        now = self._selection.takes(change.item)
        before = change.old is not None and self._selection.takes(change.old)
        if change.event == "DELETED":
            return self.line("DELETED", change.item) if before else b""
        if now:
            return self.line("MODIFIED" if before else "ADDED", change.item)
        if before and change.old is not None:
            version = change.item["metadata"]["resourceVersion"]
            return self.line("DELETED", {**change.old, "metadata": {**change.old["metadata"], "resourceVersion": version}})
        return b""

    def line(self, event: str, item: Object) -> bytes:
        """Return one line."""
        if self._shape is Shape.WHOLE:
            text = self._head + b"," + self._storage.text(self._where.kind.key, item)[1:]
            return b'{"type":"' + event.encode() + b'","object":' + text + b"}\n"
        return self._said(event, self._shaped(item))

    def bookmark(self, version: int, *, ended: bool = False) -> bytes:
        """Return a bookmark. ``ended``: the initial events are over."""
        kind = self._where.kind
        meta: Object = {"resourceVersion": str(version), "creationTimestamp": None}
        if ended:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        bare: Object = {"kind": kind.kind, "apiVersion": kind.group_version, "metadata": meta}
        if self._shape is Shape.TABLE:
            bare = table(kind.key, [], {"resourceVersion": str(version)}, self._storage.now())
            bare["rows"] = [{"cells": [], "object": partial({"metadata": meta})}]
        elif self._shape is Shape.METADATA:
            bare = partial({"metadata": meta})
        return self._said("BOOKMARK", bare)

    def error(self, failure: ApiFailure) -> bytes:
        """Return the line of a failure."""
        return self._said("ERROR", failure.status())

    def _shaped(self, item: Object) -> Object:
        if self._shape is Shape.METADATA:
            return partial(item)
        meta = {"resourceVersion": item["metadata"]["resourceVersion"]}
        include = self._asked.query.get("includeObject", "Metadata")
        made = table(self._where.kind.key, [item], meta, self._storage.now(), include=include, head=self._first)
        self._first = False
        return made

    @staticmethod
    def _said(event: str, item: Any) -> bytes:
        return json.dumps({"type": event, "object": item}, separators=(",", ":")).encode() + b"\n"
