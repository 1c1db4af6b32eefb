"""What is asked of the API and what it answers, apart from any HTTP library: a path is taken apart, a body is read, an answer is bytes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from responder.sandbox.answers import ApiFailure, bad_request
from responder.sandbox.kinds import KINDS, Kind

JSON = "application/json"
NOT_FOUND_PAGE = "404 page not found\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request.

    Attributes:
        query: The last value of each name.
        headers: By lower-case name.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def agent(self) -> str:
        """Return the User-Agent."""
        return self.headers.get("user-agent", "")

    @property
    def content_type(self) -> str:
        """Return the type of the body without its parameters; JSON when it says nothing."""
        return self.headers.get("content-type", JSON).partition(";")[0].strip() or JSON

    @property
    def dry(self) -> bool:
        """Tell whether nothing is to be changed."""
        return self.query.get("dryRun") == "All"

    @property
    def manager(self) -> str:
        """Return who writes: the field manager, or the program's name."""
        return self.query.get("fieldManager") or self.agent.partition("/")[0] or "unknown"

    def json(self) -> Any:
        """Return the body.

        Raises:
            ApiFailure: 400 when it is not JSON, 415 when it is of a type that is not read here.
        """
        if self.content_type not in {JSON, "application/yaml"} and not self.content_type.endswith(("+json", "+yaml")):
            accepted = "application/json, application/yaml"
            message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
            raise ApiFailure(415, "UnsupportedMediaType", message)
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error


@dataclass(slots=True, kw_only=True)
class Answer:
    """An answer that is whole."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Stream:
    """An answer that goes on: chunks of bytes until it ends."""

    chunks: AsyncIterator[bytes]
    content_type: str = JSON


def said(item: Any, status: int = 200) -> Answer:
    """Return a JSON answer."""
    return Answer(status=status, body=json.dumps(item, separators=(",", ":")).encode())


def failed(failure: ApiFailure) -> Answer:
    """Return the answer of a failure."""
    answer = said(failure.status(), failure.code)
    answer.headers = failure.headers
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What a path names: a collection (no name), an object, or a subresource of one."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    sub: str = ""


def known_version(path: str) -> bool:
    """Tell whether a path is below a version that is served."""
    parts = [part for part in path.split("/") if part]
    version = parts[1] if parts[:1] == ["api"] and len(parts) > 2 else "/".join(parts[1:3])
    return any(kind.group_version == version for kind in KINDS.values())


def where(path: str) -> Where | None:
    """Take a resource's path apart; None when it is none that is served here."""
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        version, rest = parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        version, rest = f"{parts[1]}/{parts[2]}", parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    kind = KINDS.get(f"{version}/{rest[0]}")
    if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
        return None
    name, sub = [*rest[1:], "", ""][:2]
    return Where(kind=kind, namespace=namespace, name=name, sub=sub)
