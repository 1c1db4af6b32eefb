"""The SDK's exceptions in our words, most specific first. Source: azure.md 2.2, kubernetes.md A13."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from responder.model.errors import (
    ContestedError,
    ForbiddenError,
    GoneError,
    OccupiedError,
    RejectedError,
    RemoteError,
    ThrottledError,
    TransientError,
)
from responder.retrying import asked_pause

SYSTEM = "arm"
BUSY_FOR = timedelta(seconds=30)
"""Between two looks at somebody's operation: ARM's limits are shared by the whole subscription (kubernetes.md A13)."""


def translated(error: BaseException, *, operation: str, target: str) -> RemoteError:
    """Return what went wrong, as one of ours; ``error`` becomes its cause where it is raised.

    An operation that fails answers with status 200: ``error.error.code`` is asked, never the status alone.
    """
    status = getattr(error, "status_code", None)
    response = getattr(error, "response", None)
    code, message = said(error)
    told = f"{code}: {message}" if code else message or type(error).__name__
    headers: Mapping[str, str] = getattr(response, "headers", None) or {}
    kind: type[RemoteError] = RejectedError
    if response is None or status is None:
        kind = (
            ForbiddenError if type(error).__name__ == "ClientAuthenticationError" and "AADSTS" in str(error) else TransientError
        )
    elif status < 400:  # taken, and then the answer could not be read, or said that it failed at once: look again
        kind = TransientError
    elif status in {401, 403}:
        kind = ForbiddenError
    elif status == 404:
        kind = GoneError
    elif status == 409:
        kind = OccupiedError if _is_busy(code, message) else ContestedError
    elif status == 412:
        kind = ContestedError
    elif status == 429:
        kind = ThrottledError
    elif status >= 500 or status == 408:
        kind = TransientError
    made = kind(told, system=SYSTEM, operation=operation, target=target, status=status)
    if isinstance(made, ThrottledError):
        made.retry_after = _pause(headers) or (BUSY_FOR if isinstance(made, OccupiedError) else None)
    return made


def said(error: BaseException) -> tuple[str, str]:
    """Return ARM's code and message of an error; "" where it gave none."""
    told: Any = getattr(error, "error", None)
    code = str(getattr(told, "code", "") or "")
    message = str(getattr(told, "message", "") or getattr(error, "message", "") or error)
    return code, (message.strip().splitlines() or [""])[0][:500]


def _is_busy(code: str, message: str) -> bool:
    """Tell an operation in progress from one that finished before it could be aborted: both are 409 OperationNotAllowed."""
    low = message.lower()
    return ("in progress" in low and "no operation in progress" not in low) or code in {"AnotherOperationInProgress", "Conflict"}


def _pause(headers: Mapping[str, str]) -> timedelta | None:
    """Return how long ARM wants to be left alone; None when it does not say. It writes the header in either form, in some places in milliseconds."""
    given = {name.lower(): str(value) for name, value in headers.items()}
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if given.get(name, "").isdecimal():
            return asked_pause(str(int(given[name]) / 1000))
    return asked_pause(given.get("retry-after", ""), date=given.get("date", ""))
