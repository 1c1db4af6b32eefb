"""What goes to people: limits, answers, secrets, and the words."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import jsonschema
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from responder.http.server import stop_serving
from responder.model.alert import Severity
from responder.model.errors import RejectedError, SettingsError, ThrottledError, TransientError
from responder.model.notice import Notice, NoticeKind, TriedRung
from responder.model.reason import Reason
from responder.notifiers import build
from responder.notifiers.pagerduty import event
from responder.notifiers.teams import message
from responder.ports import Notifier
from tests.builders import NOON

SECRET = "s3cr3t-" + "k" * 25


def notice(**changes: Any) -> Notice:
    values: dict[str, Any] = {
        "kind": NoticeKind.PAGE,
        "incident": "inc-1",
        "opening": 1,
        "level": 1,
        "dedup_key": "inc-1/1/1",
        "at": NOON,
        "severity": Severity.ERROR,
        "title": "Crashing: workload/shop/api",
        "state": "Nothing more is done",
        "reason": Reason.EXHAUSTED,
        "rule": "crash",
        "owner": "platform",
        "target": "workload/shop/api",
        "cluster": "prod",
        "opened_at": NOON,
        "seen": ("cause: crash",),
        "tried": (TriedRung(rung="restart", action="workload.restart", outcome="done, not proven"),),
        "left": ("rollback",),
        "links": (("Acknowledge", "https://r.example/a"), ("Report", "https://r.example/r"), ("Runbook", "https://x.example/")),
    }
    return Notice(**{**values, **changes})


CARD_SCHEMA = {
    "type": "object",
    "required": ["type", "attachments"],
    "properties": {
        "type": {"const": "message"},
        "attachments": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["contentType", "contentUrl", "content"],
                "properties": {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "contentUrl": {"type": "null"},
                    "content": {"$ref": "#/$defs/card"},
                },
            },
        },
    },
    "$defs": {
        "card": {
            "type": "object",
            "additionalProperties": False,
            "required": ["type", "version", "body"],
            "properties": {
                "type": {"const": "AdaptiveCard"},
                "$schema": {"type": "string"},
                "version": {"const": "1.2"},
                "fallbackText": {"type": "string"},
                "msteams": {"type": "object"},
                "body": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/element"}},
                "actions": {"type": "array", "maxItems": 6, "items": {"$ref": "#/$defs/action"}},
            },
        },
        "element": {"oneOf": [{"$ref": "#/$defs/text"}, {"$ref": "#/$defs/facts"}, {"$ref": "#/$defs/container"}]},
        "text": {
            "type": "object",
            "additionalProperties": False,
            "required": ["type", "text"],
            "properties": {
                "type": {"const": "TextBlock"},
                "text": {"type": "string", "minLength": 1},
                "wrap": {"type": "boolean"},
                "weight": {"enum": ["Lighter", "Default", "Bolder"]},
                "size": {"enum": ["Small", "Default", "Medium", "Large", "ExtraLarge"]},
                "color": {"enum": ["Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention"]},
                "spacing": {"enum": ["None", "Small", "Default", "Medium", "Large"]},
            },
        },
        "facts": {
            "type": "object",
            "required": ["type", "facts"],
            "properties": {
                "type": {"const": "FactSet"},
                "facts": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["title", "value"],
                        "properties": {"title": {"type": "string"}, "value": {"type": "string"}},
                    },
                },
            },
        },
        "container": {
            "type": "object",
            "required": ["type", "items"],
            "properties": {
                "type": {"const": "Container"},
                "style": {"enum": ["default", "emphasis", "good", "attention", "warning", "accent"]},
                "bleed": {"type": "boolean"},
                "items": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/element"}},
            },
        },
        "action": {
            "type": "object",
            "additionalProperties": False,
            "required": ["type", "title", "url"],
            "properties": {
                "type": {"const": "Action.OpenUrl"},
                "title": {"type": "string", "minLength": 1},
                "url": {"type": "string", "pattern": "^https?://"},
            },
        },
    },
}
"""Written after the Adaptive Card schema 1.2, only the elements that are used."""

LONG = st.text(max_size=3000)


@given(st.lists(LONG, max_size=40), st.lists(LONG, max_size=40), LONG, st.sampled_from(list(NoticeKind)))
def test_a_card_is_valid_and_under_28_kb_whatever_it_says(
    seen: list[str], alerts: list[str], title: str, kind: NoticeKind
) -> None:
    """Cut where it is longest; the count of what was left out is said."""
    body = message(notice(kind=kind, seen=tuple(seen), alerts=tuple(alerts), title=title, asks=title))

    assert len(body) <= 28 * 1024
    jsonschema.validate(json.loads(body), CARD_SCHEMA)


HUGE = {
    "incident": "🔥" * 50_000,
    "title": "🔥" * 50_000,
    "target": "\x01" * 50_000,
    "cluster": "🔥" * 50_000,
    "rule": "r" * 50_000,
    "owner": "o" * 50_000,
    "state": "\x02" * 50_000,
    "asks": "🔥" * 50_000,
    "running": "🔥" * 50_000,
    "seen": ("\x01" * 9_000,) * 50,
    "left": ("🔥" * 9_000,) * 50,
    "alerts": ("🔥" * 9_000,) * 400,
    "links": (("🔥" * 50_000, "https://r.example/a"), *((f"l{n}", "https://r.example/" + "x" * 990) for n in range(400))),
}


@pytest.mark.parametrize("given", [*({name: value} for name, value in HUGE.items()), HUGE], ids=[*HUGE, "all at once"])
def test_no_field_alone_and_not_all_together_pass_the_limits_of_a_channel(given: dict[str, Any]) -> None:
    """Also what is usually short: an incident's id, a link's title."""
    card = message(notice(**given))
    page = event(notice(**given), "r" * 32)

    assert len(card) <= 28 * 1024
    jsonschema.validate(json.loads(card), CARD_SCHEMA)
    assert len(json.dumps(page, ensure_ascii=False).encode()) < 512_000
    assert len(page["payload"]["summary"]) <= 1024


def test_a_link_that_is_too_long_is_left_out_and_not_cut() -> None:
    """Cut, it would be a button that leads nowhere."""
    links = (("Report", "https://r.example/r"), ("Alert", "https://a.example/?q=" + "x" * 2000))

    made = json.loads(message(notice(links=links)))["attachments"][0]["content"]["actions"]

    assert [(one["title"], one["url"]) for one in made] == [("Report", "https://r.example/r")]
    assert event(notice(links=links), "r" * 32)["links"] == [{"href": "https://r.example/r", "text": "Report"}]


def test_no_markdown_of_others_is_read_as_such() -> None:
    """A label's value could otherwise put a link of its own on our card."""
    evil = "[click here](https://evil.example)"

    made = json.loads(message(notice(title=evil, target=evil, seen=(evil,))))["attachments"][0]["content"]

    shown = json.dumps([made["body"]])
    assert "[click here](" not in shown.replace("\\\\[", "").replace("\\\\]", "")


def test_a_detail_that_is_cut_says_how_much_is_missing() -> None:
    """Nobody takes a part for the whole."""
    made = event(notice(seen=("x" * 9_000,)), "r" * 32)

    assert made["payload"]["custom_details"]["seen"].endswith("… (1000 more characters in the report)")


def test_a_card_says_what_a_person_needs_in_order() -> None:
    """What is asked and what happens now before the facts; then tried, seen, left; and three buttons."""
    text = message(notice(running="restart runs", asks="Approve it", late=True, sped_up=20.0)).decode()

    places = [text.index(word) for word in ("Asked of you", "Now", "Running", "FactSet", "Tried", "Seen", "Left", "Note")]
    assert places == sorted(places)
    assert "20 times faster" in text
    assert "Sent late" in text
    assert [one["title"] for one in json.loads(text)["attachments"][0]["content"]["actions"]] == [
        "Acknowledge",
        "Report",
        "Runbook",
    ]


@given(LONG, st.lists(LONG, max_size=60))
def test_a_pagerduty_event_keeps_its_limits(title: str, seen: list[str]) -> None:
    """1,024 characters of summary, 255 of key, 512,000 bytes."""
    made = event(notice(title=title, seen=tuple(seen), dedup_key="k" * 300), "r" * 32)

    assert len(made["payload"]["summary"]) <= 1024
    assert len(made["dedup_key"]) <= 255
    assert len(json.dumps(made).encode()) < 512_000
    assert made["payload"]["severity"] == "error"


def test_page_update_and_resolve_of_a_level_share_one_key() -> None:
    """A second trigger on an open key calls nobody; the resolve ends it."""
    keys = {event(notice(kind=kind), "r" * 32)["dedup_key"] for kind in (NoticeKind.PAGE, NoticeKind.UPDATE, NoticeKind.RESOLVE)}
    actions = [
        event(notice(kind=kind), "r" * 32)["event_action"] for kind in (NoticeKind.PAGE, NoticeKind.UPDATE, NoticeKind.RESOLVE)
    ]

    assert keys == {"inc-1/1/1"}
    assert actions == ["trigger", "trigger", "resolve"]


class Answering:
    """A receiver that answers as told."""

    def __init__(self) -> None:
        self.status, self.text = 202, "{}"
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status, text=self.text, headers=self.headers)


@pytest.fixture
async def there() -> AsyncIterator[Answering]:
    one = Answering()
    app = web.Application()
    app.router.add_post("/hook", one.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield one
    await stop_serving(runner)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def channel(kind: str, url: str, session: aiohttp.ClientSession) -> Notifier:
    given = (
        {"routing_key": SECRET, "url": url}
        if kind == "pagerduty"
        else {"url": f"{url}?sig={SECRET}", "token": SECRET, "hmac_key": SECRET}
    )
    return build(kind, "night", given, session)


@pytest.mark.parametrize("kind", ["pagerduty", "teams", "webhook"])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RejectedError),
        (404, RejectedError),
        (429, ThrottledError),
        (500, TransientError),
        (503, TransientError),
        (302, RejectedError),
    ],
)
async def test_every_answer_is_told_apart_and_no_secret_is_in_an_error(
    kind: str, status: int, error: type[Exception], there: Answering, session: aiohttp.ClientSession
) -> None:
    """Permanent, throttled, transient: the outbox decides by type. A proxy that repeats the whole request betrays nothing."""
    there.status, there.headers = status, {"Retry-After": "7", "Location": "http://elsewhere.example"}
    there.text = f"POST /hook?sig={SECRET} Authorization: Bearer {SECRET} {{'routing_key': '{SECRET}'}} refused"

    with pytest.raises(error) as raised:
        await channel(kind, there.url, session).send(notice())

    assert SECRET not in str(raised.value)
    assert "night" in str(raised.value)
    assert "refused" in str(raised.value)
    if isinstance(raised.value, ThrottledError):
        assert raised.value.retry_after == timedelta(seconds=7)
    assert len(there.requests) == 1


async def test_a_date_to_come_back_at_counts_from_the_answers_own_clock(there: Answering, session: aiohttp.ClientSession) -> None:
    """Retry-After may be an HTTP date; ours and theirs may differ."""
    there.status = 429
    there.headers = {"Retry-After": "Tue, 24 Nov 2026 12:01:30 GMT", "Date": "Tue, 24 Nov 2026 12:00:00 GMT"}

    with pytest.raises(ThrottledError) as raised:
        await channel("teams", there.url, session).send(notice())

    assert raised.value.retry_after == timedelta(seconds=90)


@pytest.mark.parametrize("kind", ["pagerduty", "teams", "webhook"])
async def test_a_url_that_is_none_is_not_tried_again(kind: str, session: aiohttp.ClientSession) -> None:
    """The fallback is taken at once; repeating would never help."""
    with pytest.raises(RejectedError, match="configured URL") as raised:
        await channel(kind, "not a url", session).send(notice())

    assert SECRET not in str(raised.value)


async def test_pagerduty_vouches_only_with_its_202(there: Answering, session: aiohttp.ClientSession) -> None:
    """A proxy's 200 is no PagerDuty."""
    there.status = 200

    assert not (await channel("pagerduty", there.url, session).send(notice())).reached


@pytest.mark.parametrize("kind", ["pagerduty", "teams", "webhook"])
async def test_no_answer_is_transient_and_shows_no_url(kind: str, session: aiohttp.ClientSession) -> None:
    """Nothing listens."""
    with pytest.raises(TransientError) as raised:
        await channel(kind, "http://127.0.0.1:9/hook", session).send(notice())

    assert SECRET not in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)


@pytest.mark.parametrize(("kind", "reached"), [("pagerduty", True), ("teams", False), ("webhook", False)])
async def test_only_pagerduty_vouches_for_a_person(
    kind: str, reached: bool, there: Answering, session: aiohttp.ClientSession
) -> None:
    """202 from Teams or a webhook is no delivery."""
    assert (await channel(kind, there.url, session).send(notice())).reached is reached


async def test_a_report_calls_nobody(there: Answering, session: aiohttp.ClientSession) -> None:
    """PagerDuty is for pages."""
    receipt = await channel("pagerduty", there.url, session).send(notice(kind=NoticeKind.INFO))

    assert not receipt.reached
    assert there.requests == []


async def test_the_old_teams_connectors_error_in_a_200_counts(there: Answering, session: aiohttp.ClientSession) -> None:
    """It answered 200 with the error as text."""
    there.status, there.text = 200, "Microsoft Teams endpoint returned HTTP error 429"

    with pytest.raises(ThrottledError):
        await channel("teams", there.url, session).send(notice())


async def test_a_webhook_is_signed_over_time_and_body(there: Answering, session: aiohttp.ClientSession) -> None:
    """The receiver can check both."""
    await channel("webhook", there.url, session).send(notice())

    headers, body = there.requests[0]
    stamp = headers["X-Responder-Timestamp"]
    digest = hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["X-Responder-Signature"] == f"v1={digest}"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert json.loads(body)["format"] == 1


async def test_a_channel_without_its_secret_is_refused(session: aiohttp.ClientSession) -> None:
    """At start, by name."""
    with pytest.raises(SettingsError, match=r"channels\.night: routing_key is missing"):
        build("pagerduty", "night", {}, session)
    with pytest.raises(SettingsError, match="pigeon"):
        build("pigeon", "night", {}, session)


def test_a_level_says_that_nobody_acknowledged() -> None:
    """The second level knows why it is called."""
    assert "nobody acknowledged" in message(replace(notice(), level=2)).decode()
