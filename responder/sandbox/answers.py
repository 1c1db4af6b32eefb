"""Answers of an API server other than success, in its words. Source: apimachinery ``api/errors``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What an answer is about: ``deployments`` of the group ``apps``, ``Deployment`` for an invalid one."""

    group: str = ""
    plural: str = ""
    kind: str = ""

    @property
    def qualified(self) -> str:
        """Return ``deployments.apps``, or ``pods`` of the core group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """Return ``Deployment.apps``, or ``Pod`` of the core group."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of a refusal; ``field`` is a path such as ``spec.replicas``."""

    reason: str
    message: str
    field: str = ""

    def rendered(self) -> Object:
        """Return it as the API writes it."""
        return {"reason": self.reason, "message": self.message, **({"field": self.field} if self.field else {})}


class ApiFailure(Exception):  # noqa: N818 - an answer, not an error of ours
    """An answer of the API server other than success. ``retry_after``: seconds, in the details and as a header."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        causes: Sequence[Cause] = (),
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after: int = 0,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.causes = code, reason, message, tuple(causes)
        self.headers = dict(headers or {})
        if retry_after:
            self.headers["Retry-After"] = str(retry_after)
        self.details = dict(details or {})
        self.retry_after = retry_after
        self.meta = dict(meta or {})

    def status(self) -> Object:
        """Return the Status object."""
        details: Object = dict(self.details)
        if self.causes:
            details["causes"] = [one.rendered() for one in self.causes]
        if self.retry_after:
            details["retryAfterSeconds"] = self.retry_after
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.meta,
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
            **({"details": details} if details else {}),
            "code": self.code,
        }


def _about(of: Resource, name: str) -> Object:
    return {
        **({"name": name} if name else {}),
        **({"group": of.group} if of.group else {}),
        **({"kind": of.plural} if of.plural else {}),
    }


def not_found(of: Resource, name: str) -> ApiFailure:
    """Return the 404 of a name that nobody has."""
    return ApiFailure(404, "NotFound", f'{of.qualified} "{name}" not found', details=_about(of, name))


def already_exists(of: Resource, name: str) -> ApiFailure:
    """Return the 409 of a name that is taken."""
    return ApiFailure(409, "AlreadyExists", f'{of.qualified} "{name}" already exists', details=_about(of, name))


def conflict(of: Resource, name: str, why: str) -> ApiFailure:
    """Return the 409 of an update that lost."""
    message = f'Operation cannot be fulfilled on {of.qualified} "{name}": {why}'
    return ApiFailure(409, "Conflict", message, details=_about(of, name))


def modified(of: Resource, name: str) -> ApiFailure:
    """Return the 409 of an old resourceVersion."""
    return conflict(of, name, "the object has been modified; please apply your changes to the latest version and try again")


def forbidden(of: Resource, name: str, why: str, *causes: Cause) -> ApiFailure:
    """Return a 403: of rights, quotas and namespaces that are going away."""
    what = f'{of.qualified} "{name}"' if name else of.qualified
    return ApiFailure(403, "Forbidden", f"{what} is forbidden: {why}", details=_about(of, name), causes=causes)


def terminating(of: Resource, namespace: str, name: str) -> ApiFailure:
    """Return the 403 of something new in a namespace that is going away."""
    cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    return forbidden(of, name, why, cause)


def invalid(of: Resource, name: str, *causes: Cause) -> ApiFailure:
    """Return the 422 of an object that breaks rules; each cause's message is what its field says."""
    said = list(dict.fromkeys(f"{one.field}: {one.message}" for one in causes))
    words = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    details = {
        **({"name": name} if name else {}),
        **({"group": of.group} if of.group else {}),
        **({"kind": of.kind} if of.kind else {}),
    }
    return ApiFailure(422, "Invalid", f'{of.qualified_kind} "{name}" is invalid: {words}', details=details, causes=causes)


def bad_request(message: str) -> ApiFailure:
    """Return a 400."""
    return ApiFailure(400, "BadRequest", message)
