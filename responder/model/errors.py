"""The error tree, drawn once. Source: STYLE.md "Errors".

Expected outcomes are values; these are the surprises. Adapters translate their SDK's exceptions into these at their own
border; above the adapters no SDK exception exists.
"""

from __future__ import annotations

from datetime import timedelta


class ResponderError(Exception):
    """Something went wrong that this program has a word for."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class SettingsError(ResponderError):
    """The configuration cannot be used; start-up stops."""


class RuleError(ResponderError):
    """A rule or rule test cannot be used.

    Attributes:
        file: The file's path as given, or "<text>".
        line: 1-based.
        column: 1-based.
        path: Dotted path in the document, such as ``ladder.1.within``; "" for the whole.
        problem: What is wrong and what was expected.
    """

    def __init__(self, problem: str, *, file: str = "<text>", line: int = 1, column: int = 1, path: str = "") -> None:
        where = f"{file}:{line}:{column}: {path}: " if path else f"{file}:{line}:{column}: "
        super().__init__(where + problem)
        self.file, self.line, self.column, self.path, self.problem = file, line, column, path, problem


class DeliveryError(ResponderError):
    """What a sender sent cannot be used."""


class UnauthenticatedError(DeliveryError):
    """The sender did not prove who it is."""


class NotPermittedError(DeliveryError):
    """The sender is known, and may not do this."""


class MalformedError(DeliveryError):
    """The body is not what its format says; repeating it is useless."""


class OversizeError(DeliveryError):
    """The body is larger than allowed."""


class RemoteError(ResponderError):
    """Another system did not do what was asked.

    Attributes:
        system: Such as ``kubernetes`` or ``pagerduty``.
        operation: What was being done, such as ``patch Deployment``.
        target: To what.
        status: The HTTP status, or None when no answer came.
    """

    def __init__(self, message: str, *, system: str, operation: str = "", target: str = "", status: int | None = None) -> None:
        doing = " ".join(part for part in (system, operation, target) if part)
        answered = f" ({status})" if status is not None else ""
        super().__init__(f"{doing}: {message}{answered}")
        self.system, self.operation, self.target, self.status, self.answer = system, operation, target, status, message


class TransientError(RemoteError):
    """Time-out, reset or 5xx: worth repeating."""


class ThrottledError(TransientError):
    """429: repeat after ``retry_after``."""

    retry_after: timedelta | None = None


class BlockedError(ThrottledError):
    """429 of an eviction: a disruption budget refuses; per pod, not the whole client (kubernetes.md A2)."""


class OccupiedError(ThrottledError):
    """409 of the cloud: another operation is in progress; wait for it, never send a second one beside it."""


class RejectedError(RemoteError):
    """4xx: repeating is useless."""


class ForbiddenError(RejectedError):
    """Our identity or its role is wrong: tell the platform team."""


class GoneError(RemoteError):
    """The target no longer exists."""


class ContestedError(RemoteError):
    """The lease is lost, or a newer version of the object exists: look again."""


class InvariantError(ResponderError):
    """A bug in us; never caught below the incident boundary."""


class StoreUnavailableError(ResponderError):
    """The store cannot be written now: senders are told to come back."""


class KeysUnavailableError(ResponderError):
    """Who calls cannot be told now, for want of signing keys: senders are told to come back."""


class IntakeFullError(ResponderError):
    """Too much waits to be stored: senders are told to come back."""
