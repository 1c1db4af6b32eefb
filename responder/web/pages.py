"""Pages people open from a message: the list of incidents, a report, and the page on which one acknowledges.

A GET changes nothing: chat programs open links. What changes something is a POST from our own page (``Origin`` is checked), with the same
tokens as the API (as the password of the browser's own dialogue).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohttp import web

from responder.http.auth import Caller, Role
from responder.http.errors import NoIncidentError, refusal
from responder.model.incident import Incident, Mode
from responder.ports import Store
from responder.service.notices import asks, left, links, nameless, running, seen, state_of
from responder.service.report import Reporter, alert_line, facts_of_record, line_of

if TYPE_CHECKING:
    from jinja2 import Environment

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


MOST_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PageParts:
    """What the pages work with; ``signal`` returns why it could not be said, or ""; ``problems`` why the newest rules are not in force."""

    store: Store
    reporter: Reporter
    caller: Callable[[web.Request, Role], Caller]
    signal: Callable[[str, str, str, dict[str, Any]], Awaitable[str]]
    problems: Callable[[], Sequence[str]] = tuple


def routes(parts: PageParts) -> list[web.RouteDef]:
    """Return the routes of all pages."""
    pages = Pages(parts)
    return [
        web.get("/", pages.home),
        web.get("/incidents/{id}", pages.report),
        web.get("/incidents/{id}/report", pages.report),
        web.get("/incidents/{id}/acknowledge", pages.acknowledge_page),
        web.post("/incidents/{id}/acknowledge", pages.acknowledge),
    ]


class Pages:
    """Renders pages."""

    def __init__(self, parts: PageParts) -> None:
        self._parts = parts

    @cached_property
    def _templates(self) -> Environment:
        from jinja2 import Environment, PackageLoader, select_autoescape  # noqa: PLC0415 - for the first page that is opened, not for every start

        return Environment(
            loader=PackageLoader("responder.web"), autoescape=select_autoescape(default=True, default_for_string=True)
        )

    async def home(self, request: web.Request) -> web.Response:
        """GET /: unclosed incidents."""
        self._parts.caller(request, Role.VIEW)
        incidents = await self._parts.store.incidents(unclosed=True, limit=MOST_SHOWN)
        return self._page(
            "home.html",
            rows=[self._parts.reporter.summary(one) for one in incidents],
            cut=len(incidents) == MOST_SHOWN,
            switched=[one for one in await self._parts.store.modes() if one.mode is not Mode.ARMED],
            problems=self._parts.problems(),
        )

    async def report(self, request: web.Request) -> web.Response:
        """GET /incidents/{id}."""
        self._parts.caller(request, Role.VIEW)
        incident = await self._found(request)
        data = await self._parts.reporter.data(incident)
        return self._page(
            "report.html",
            incident=incident,
            data=data,
            state=state_of(incident),
            record=facts_of_record(data),
            alert_line=alert_line,
            seen=seen(incident),
            tried=[line_of(run).replace("**", "") for run in incident.runs],
            running=running(incident),
            left=left(incident, data.rule),
            asks=asks(incident),
            nameless=nameless(incident),
            links=[one for one in links(incident, data.rule, data.instances, "") if one[1].startswith("https://")],
        )

    async def acknowledge_page(self, request: web.Request) -> web.Response:
        """GET /incidents/{id}/acknowledge: a button; nothing changes yet."""
        self._parts.caller(request, Role.VIEW)
        incident = await self._found(request)
        return self._page("acknowledge.html", incident=incident, state=state_of(incident), said="")

    async def acknowledge(self, request: web.Request) -> web.Response:
        """POST /incidents/{id}/acknowledge from our own page."""
        caller = self._parts.caller(request, Role.OPERATE)
        origin = request.headers.get("Origin", "")
        if origin and urlsplit(origin).netloc != request.host:
            return refusal(403, "this form was not sent from our own page", "open the link of the message again")
        incident = await self._found(request)
        problem = await self._parts.signal(incident.id, "acknowledge", caller.name, {"text": "on the acknowledge page"})
        said = problem or f"{caller.name} has it: no further level is called."
        return self._page("acknowledge.html", incident=incident, state=state_of(incident), said=said)

    async def _found(self, request: web.Request) -> Incident:
        found = await self._parts.store.incident(request.match_info["id"])
        if found is None:
            raise NoIncidentError(request.match_info["id"])
        return found

    def _page(self, template: str, **values: Any) -> web.Response:
        text = self._templates.get_template(template).render(**values)
        return web.Response(text=text, content_type="text/html", charset="utf-8", headers=HEADERS)
