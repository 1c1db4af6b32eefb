"""Error bodies: every refusal is JSON that says what was wrong and what to do; ``{"error": {"status", "what", "do"}}``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Middleware

from responder.model.errors import (
    IntakeFullError,
    KeysUnavailableError,
    MalformedError,
    NotPermittedError,
    OversizeError,
    StoreUnavailableError,
    UnauthenticatedError,
)
from responder.telemetry import Metrics, logger

RETRY_AFTER_SECONDS = 5

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NoIncidentError(web.HTTPNotFound):
    """There is no such incident: a name that was mistyped, or one that retention has forgotten."""

    def __init__(self, incident: str) -> None:
        super().__init__(text=f"there is no incident {incident}")


def refusal(status: int, what: str, do: str = "", *, headers: dict[str, str] | None = None) -> web.Response:
    """Return an error response."""
    return web.json_response({"error": {"status": status, "what": what, "do": do}}, status=status, headers=headers)


def error_middleware(metrics: Metrics) -> Middleware:
    """Return the middleware that translates our errors and aiohttp's own into error bodies."""

    @web.middleware
    async def translate(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except UnauthenticatedError as error:
            response = refusal(
                401,
                str(error),
                "check the token of this sender in responder.yaml: http.tokens, or http.entra for a source that takes signed ones"
                if request.path.startswith("/v1/alerts")
                else "check the token: people's stand in responder.yaml under http.tokens",
            )
            response.headers["WWW-Authenticate"] = (
                'Basic realm="responder"' if _wants_page(request) else 'Bearer realm="responder"'
            )
        except NotPermittedError as error:
            response = refusal(403, str(error), "the sender is known and may not send here")
        except OversizeError as error:
            response = refusal(413, str(error), "send fewer alerts at once (Alertmanager: max_alerts)")
        except MalformedError as error:
            response = refusal(400, str(error), "send JSON; the body was not stored")
        except (StoreUnavailableError, IntakeFullError, KeysUnavailableError) as error:
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            response = refusal(503, str(error), "repeat it; nothing was stored", headers=headers)
        except web.HTTPRequestEntityTooLarge as error:
            response = refusal(413, error.text or "too large", "send fewer alerts at once (Alertmanager: max_alerts)")
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            response = refusal(
                405, f"{request.method} is not served here; {allowed} is", "check the method", headers={"Allow": allowed}
            )
        except NoIncidentError as error:
            response = refusal(404, str(error.text), "GET /v1/incidents?all=true lists them; the ids are case-sensitive")
        except web.HTTPNotFound:
            response = refusal(404, f"there is nothing at {request.path}", "GET /openapi.json lists what there is")
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            response = refusal(error.status, error.text or error.reason)
        except Exception as error:  # noqa: BLE001 - the request boundary: an answer is owed; the log has the trace
            logger().exception("request_failed", path=request.path, problem=repr(error))
            response = refusal(
                503, "a bug of ours; the log has it", "repeat it", headers={"Retry-After": str(RETRY_AFTER_SECONDS)}
            )
        if request.path.startswith("/v1/alerts"):
            metrics.refused.labels(str(response.status)).inc()
            logger().warning("delivery_refused", path=request.path, status=response.status)
        return response

    return translate


def _wants_page(request: web.Request) -> bool:
    return "text/html" in request.headers.get("Accept", "")
