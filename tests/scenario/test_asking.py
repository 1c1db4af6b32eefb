"""Senders are asked what holds now: what was lost or missed is found, and nothing is invented."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import msgspec
import pytest

from responder.model.alert import AlertStatus, SourceKind
from responder.model.asking import Current
from responder.model.errors import ForbiddenError, StoreUnavailableError, TransientError
from responder.model.incident import Instance
from responder.model.storing import DeliveryState, RoutedAlert
from responder.rules.matchers import parse_matchers
from responder.service.asking import AGAIN_AFTER, EVERY, Asker
from responder.service.intake import Intake
from responder.sources import alertmanager, azure_monitor
from responder.sources.alertmanager_api import AlertmanagerApi
from responder.sources.azure_alerts import AzureAlerts
from responder.stores import SqlStore, open_memory
from responder.telemetry import Metrics
from tests.builders import NOON
from tests.fakes.clock import FakeClock
from tests.fakes.senders import SUBSCRIPTION, AlertmanagerDouble, AzureAlertsDouble, Tokens, azure_alert
from tests.scenario.conftest import World

F, R = AlertStatus.FIRING, AlertStatus.RESOLVED


@dataclass
class Place:
    """A store and an intake, a clock that stands still, and a router in miniature that merges and opens nothing."""

    store: SqlStore
    clock: FakeClock
    intake: Intake
    metrics: Metrics
    session: aiohttp.ClientSession

    def asker(self, source: Any) -> Asker:
        return Asker(source=source, store=self.store, intake=self.intake, clock=self.clock, metrics=self.metrics)

    async def receive(self, kind: SourceKind, body: Any, *, name: str = "sender") -> None:
        """Take a delivery in as from the sender itself."""
        await self.intake.accept(source=kind, source_name=name, body=msgspec.json.encode(body))
        await self.route()

    async def route(self) -> int:
        """Route what waits; return how many deliveries there were."""
        found = await self.store.claim_deliveries(limit=100, lease=timedelta(seconds=30))
        reads = {SourceKind.ALERTMANAGER: alertmanager.alerts_of, SourceKind.AZURE_MONITOR: azure_monitor.alerts_of}
        for one in found:
            read = reads[SourceKind(one.source)](
                msgspec.json.decode(one.body), source_name=one.source_name, received_at=one.received_at
            )
            assert read.understood, read.why
            routed = [RoutedAlert(alert=each, rules=("r",)) for each in read.alerts]
            await self.store.route(routed, delivery=one, state=DeliveryState.ROUTED, note="", shape=read.shape)
        return len(found)

    async def states(self) -> dict[str, AlertStatus]:
        return {one.name: one.status for one in await self.store.instances(why=None, firing=False, limit=99)}


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    clock = FakeClock(NOON)
    store = open_memory(clock)
    async with aiohttp.ClientSession() as session:
        yield Place(store, clock, Intake(store=store, clock=clock), Metrics(), session)
    await store.close()


def member(place: Place, *doubles: AlertmanagerDouble, **given: Any) -> AlertmanagerApi:
    return AlertmanagerApi(
        name="sender",
        urls=[one.url for one in doubles],
        receivers=["responder"],
        session=place.session,
        now=place.clock.now,
        **given,
    )


def webhook(*alerts: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": "4", "receiver": "responder", "alerts": list(alerts)}


@pytest.fixture
async def prometheus() -> AsyncIterator[AlertmanagerDouble]:
    async with AlertmanagerDouble() as made:
        yield made


# --- Alertmanager


async def test_what_fired_while_we_were_away_is_found_and_is_the_same_firing_as_its_own_delivery(
    place: Place, prometheus: AlertmanagerDouble
) -> None:
    """Once: asked again, or delivered by the webhook to the nanosecond, it stays one instance."""
    said = prometheus.fire("KubePodCrashLooping")
    asker = place.asker(member(place, prometheus))

    assert await asker.ask()
    assert await place.route() == 1
    assert await asker.ask()
    assert await place.route() == 0
    place.clock.forward(seconds=1)
    await place.receive(SourceKind.ALERTMANAGER, webhook(said))

    (one,) = await place.store.instances(why=None, firing=False, limit=9)
    assert (one.name, one.status, one.source_name, one.count) == ("KubePodCrashLooping", F, "sender", 2)
    assert asker.problem == ""


async def test_a_resolved_that_never_arrived_is_found(place: Place, prometheus: AlertmanagerDouble) -> None:
    """It is not in the list any more: resolved under its own identity, once."""
    await place.receive(SourceKind.ALERTMANAGER, webhook(prometheus.fire("A"), prometheus.fire("B")))
    asker = place.asker(member(place, prometheus))
    del prometheus.alerts["A"]
    place.clock.forward(minutes=1)

    assert await asker.ask()
    await place.route()

    assert await place.states() == {"A": R, "B": F}
    assert await asker.ask()
    assert await place.route() == 0


async def test_an_alert_that_is_silenced_inhibited_or_routed_elsewhere_neither_fires_nor_is_over(
    place: Place, prometheus: AlertmanagerDouble
) -> None:
    """Its sender says nothing about it, and so do we."""
    await place.receive(SourceKind.ALERTMANAGER, webhook(prometheus.fire("A"), prometheus.fire("B")))
    prometheus.fire("A", state="suppressed")
    prometheus.fire("B", receiver="null")
    prometheus.fire("C", state="suppressed")
    prometheus.fire("D", receiver="null")
    prometheus.fire("E", state="unprocessed")

    assert await place.asker(member(place, prometheus)).ask()
    await place.route()

    assert await place.states() == {"A": F, "B": F}


async def test_two_members_of_a_cluster_are_one_sender(place: Place, prometheus: AlertmanagerDouble) -> None:
    """An alert that one of them has holds; what one suppresses is not taken in from the other."""
    async with AlertmanagerDouble() as other:
        await place.receive(SourceKind.ALERTMANAGER, webhook(other.fire("A"), prometheus.fire("B"), {**prometheus.fire("gone")}))
        del prometheus.alerts["gone"]
        prometheus.fire("C", state="suppressed")
        other.fire("C")

        assert await place.asker(member(place, prometheus, other)).ask()
        await place.route()

    assert await place.states() == {"A": F, "B": F, "gone": R}


WHY: dict[str, tuple[dict[str, Any], str]] = {
    "just started": ({"started_at": NOON - timedelta(minutes=2)}, "may not have all alerts yet"),
    "without a word since when it runs": ({"started_at": None}, "does not say since when"),
    "without our receiver": ({"receivers": ["other"]}, "no receiver responder"),
    "broken": ({"status": 500}, "broken"),
    "not for us": ({"status": 401}, "ask.token"),
    "nonsense": ({"answer": {"error": "x"}}, "no list"),
}


@pytest.mark.parametrize("name", list(WHY))
async def test_nothing_is_over_because_a_list_that_proves_nothing_lacks_it(
    place: Place, prometheus: AlertmanagerDouble, name: str
) -> None:
    """One member of two is enough to doubt; what the other has is taken in all the same."""
    changes, said = WHY[name]
    await place.receive(SourceKind.ALERTMANAGER, webhook(prometheus.fire("A")))
    prometheus.alerts.clear()
    async with AlertmanagerDouble() as other:
        other.fire("B")
        for field, value in changes.items():
            setattr(prometheus, field, value)
        asker = place.asker(member(place, prometheus, other))

        assert not await asker.ask()
        await place.route()

        assert await place.states() == {"A": F, "B": F}
        assert said in asker.problem
        for field, value in (
            ("started_at", NOON - timedelta(days=1)),
            ("receivers", ["responder"]),
            ("status", 200),
            ("answer", None),
        ):
            setattr(prometheus, field, value)
        assert await asker.ask()
        await place.route()
        assert await place.states() == {"A": R, "B": F}


async def test_a_filter_leaves_alone_what_it_leaves_out(place: Place, prometheus: AlertmanagerDouble) -> None:
    """Alertmanager is asked with it, and what we know is judged by it too."""
    await place.receive(
        SourceKind.ALERTMANAGER, webhook(prometheus.fire("A", cluster="prod"), {**prometheus.fire("B", cluster="test")})
    )
    prometheus.alerts.clear()
    filters = ['cluster="prod"']

    assert await place.asker(member(place, prometheus, filters=filters, matches=parse_matchers(filters), token="secret")).ask()
    await place.route()

    assert await place.states() == {"A": R, "B": F}
    assert prometheus.filters == filters
    assert set(prometheus.tokens) == {"Bearer secret"}


async def test_another_senders_alerts_are_not_touched(place: Place, prometheus: AlertmanagerDouble) -> None:
    """Nor those of another name, nor of another format."""
    await place.receive(SourceKind.ALERTMANAGER, webhook(prometheus.fire("A")), name="other")
    prometheus.alerts.clear()

    assert await place.asker(member(place, prometheus)).ask()
    await place.route()

    assert await place.states() == {"A": F}


async def test_an_alert_that_resolved_and_fires_again_is_taken_in_again(place: Place, prometheus: AlertmanagerDouble) -> None:
    """The same start, as after an outage of Prometheus: the last word counts, and the list is newer."""
    said = prometheus.fire("A")
    await place.receive(SourceKind.ALERTMANAGER, webhook({**said, "status": "resolved", "endsAt": "2026-01-05T11:59:00Z"}))
    place.clock.forward(minutes=1)

    assert await place.asker(member(place, prometheus)).ask()
    await place.route()

    assert await place.states() == {"A": F}


async def test_many_alerts_come_in_bodies_of_a_hundred(place: Place, prometheus: AlertmanagerDouble) -> None:
    """After a long time away."""
    for number in range(250):
        prometheus.fire(f"A{number}")

    assert await place.asker(member(place, prometheus)).ask()

    assert await place.route() == 3
    assert len(await place.store.instances(why=None, firing=True, limit=999)) == 250


# --- what comes in between


class Slow:
    """A sender during whose answer something happens."""

    name, source, resolved_is_final = "sender", SourceKind.ALERTMANAGER, False

    def __init__(self, inner: AlertmanagerApi, meanwhile: Any) -> None:
        self.inner, self.meanwhile = inner, meanwhile

    async def current(self, known: Mapping[str, Instance]) -> Current:
        found = await self.inner.current(known)
        await self.meanwhile()
        return found

    def bodies(self, said: Sequence[Any]) -> Sequence[bytes]:
        return self.inner.bodies(said)


async def test_an_alert_that_arrives_while_the_sender_answers_is_newer_than_the_answer(
    place: Place, prometheus: AlertmanagerDouble
) -> None:
    """A firing that the answer lacks is not over, and a Resolved that the answer does not know is not undone."""
    fired, over = prometheus.fire("A"), prometheus.fire("B")
    await place.receive(SourceKind.ALERTMANAGER, webhook(fired, over))
    del prometheus.alerts["A"]

    async def meanwhile() -> None:
        place.clock.forward(seconds=2)
        await place.receive(
            SourceKind.ALERTMANAGER, webhook(fired, {**over, "status": "resolved", "endsAt": "2026-01-05T12:00:01Z"})
        )

    assert await place.asker(Slow(member(place, prometheus), meanwhile)).ask()
    await place.route()

    assert await place.states() == {"A": F, "B": R}


async def test_a_store_that_is_down_loses_nothing(
    place: Place, prometheus: AlertmanagerDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not stored is found the next time."""
    prometheus.fire("A")
    asker = place.asker(member(place, prometheus))

    async def down(*_: object, **__: object) -> bool:
        raise StoreUnavailableError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(place.intake, "accept", down)
        assert not await asker.ask()
    assert "disk full" in asker.problem
    assert await asker.ask()
    assert await place.route() == 1


class Rehearsed:
    """A sender that answers what it is told to."""

    name, source, resolved_is_final = "sender", SourceKind.ALERTMANAGER, False

    def __init__(self, *answers: Current | Exception) -> None:
        self.answers = list(answers)

    async def current(self, known: Mapping[str, Instance]) -> Current:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def bodies(self, said: Sequence[Any]) -> Sequence[bytes]:
        return []


async def test_it_is_asked_at_start_every_five_minutes_and_sooner_when_it_failed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 s, then twice as long each time, at most the five minutes; and at once when we were away."""
    broken = TransientError("down", system="alertmanager")
    asker = place.asker(Rehearsed(Current(), broken, Current(problems=("half",)), broken, broken, broken, Current(), Current()))
    waits: list[timedelta] = []

    async def pause(wait: timedelta) -> None:
        waits.append(wait)
        if len(waits) == 8:
            raise asyncio.CancelledError

    monkeypatch.setattr(asker, "_pause", pause)
    with pytest.raises(asyncio.CancelledError):
        await asker.run()

    again = AGAIN_AFTER
    assert waits == [EVERY, again, again * 2, again * 4, again * 8, EVERY, EVERY, EVERY]


async def test_a_wake_up_ends_the_pause(place: Place) -> None:
    """After an outage of our own nobody waits five minutes."""
    source = Rehearsed(Current(), Current(), Current())
    asker = Asker(source=source, store=place.store, intake=place.intake, clock=_Real(), metrics=place.metrics)
    task = asyncio.create_task(asker.run())
    async with asyncio.timeout(60):
        while len(source.answers) == 3:
            await asyncio.sleep(0.01)
        asker.wake()
        while len(source.answers) == 2:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert len(source.answers) == 1


class _Real(FakeClock):
    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())


# --- Azure


@pytest.fixture
async def azure() -> AsyncIterator[AzureAlertsDouble]:
    async with AzureAlertsDouble() as made:
        yield made


def listing(place: Place, double: AzureAlertsDouble, **given: Any) -> AzureAlerts:
    values = {"subscriptions": [SUBSCRIPTION], "identity": Tokens(), "url": double.url}
    return AzureAlerts(name="sender", session=place.session, now=place.clock.now, **{**values, **given})


def posted(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return an alert of the list as its action group posts it."""
    essentials = one["properties"]["essentials"]
    said = {
        "alertId": one["id"], "alertRule": "pods failing", "severity": essentials["severity"], "monitorCondition": essentials["monitorCondition"],
        "monitoringService": essentials["monitorService"], "alertTargetIDs": [essentials["targetResource"]], "firedDateTime": essentials["startDateTime"],
    }  # fmt: skip
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {"essentials": said, "alertContext": one["properties"]["context"]},
    }


async def test_an_azure_alert_that_fired_while_we_were_away_is_the_one_its_action_group_sends(
    place: Place, azure: AzureAlertsDouble
) -> None:
    """Over all pages; the same instance, name, labels and severity; once."""
    azure.alerts = [azure_alert(number) for number in range(5)]
    asker = place.asker(listing(place, azure))

    assert await asker.ask()
    assert await place.route() == 5
    found = {one.instance: one for one in await place.store.instances(why=None, firing=True, limit=9)}
    place.clock.forward(seconds=1)
    await place.receive(SourceKind.AZURE_MONITOR, posted(azure.alerts[0]))
    after = {one.instance: one for one in await place.store.instances(why=None, firing=True, limit=9)}
    assert await asker.ask()

    assert await place.route() == 0
    assert set(found) == set(after)
    one = found[f"azure/{azure.alerts[0]['id'].lower()}"]
    assert (one.name, one.severity, one.labels["namespace"], one.labels["resource"]) == (
        "pods failing",
        "error",
        "shop",
        "aks-prod",
    )
    same = after[one.instance]
    assert (dict(same.labels), same.started_at, same.value) == (dict(one.labels), one.started_at, one.value)
    assert azure.queries[0]["monitorCondition"] == "Fired"
    assert azure.queries[0]["timeRange"] == "1d"


async def test_an_azure_alert_is_over_only_when_azure_says_so_by_its_id(place: Place, azure: AzureAlertsDouble) -> None:
    """Not because a list lacks it, nor because it is gone; its labels stay what they were."""
    azure.alerts = [azure_alert(1), azure_alert(2), azure_alert(3, startDateTime="2026-01-01T00:00:00Z")]
    for one in azure.alerts:
        await place.receive(SourceKind.AZURE_MONITOR, posted(one))
    before = {one.instance: dict(one.labels) for one in await place.store.instances(why=None, firing=True, limit=9)}
    azure.alerts[0]["properties"]["essentials"] |= {
        "monitorCondition": "Resolved",
        "monitorConditionResolvedDateTime": "2026-01-05T11:59:00Z",
    }
    del azure.alerts[1]
    place.clock.forward(minutes=1)

    assert await place.asker(listing(place, azure)).ask()
    await place.route()

    found = {one.instance.rsplit("/", 1)[1][:8]: one for one in await place.store.instances(why=None, firing=False, limit=9)}
    assert {name: one.status for name, one in found.items()} == {"00000001": R, "00000002": F, "00000003": F}
    assert dict(found["00000001"].labels) == before[found["00000001"].instance]


SKIPPED: dict[str, dict[str, Any]] = {
    "fired long ago": {"startDateTime": "2026-01-03T11:30:00Z"},
    "closed by a person": {"alertState": "Closed"},
    "suppressed by a processing rule": {"actionStatus": {"isSuppressed": True}},
    "an activity log event": {"monitorService": "ActivityLog Administrative"},
    "a service health event": {"monitorService": "ServiceHealth"},
    "a resource health event": {"monitorService": "Resource Health"},
    "without a start": {"startDateTime": ""},
}


@pytest.mark.parametrize("name", list(SKIPPED))
async def test_what_azure_would_not_have_sent_is_not_taken_in(place: Place, azure: AzureAlertsDouble, name: str) -> None:
    """The list holds everything of a subscription."""
    azure.alerts = [azure_alert(1, **SKIPPED[name]), azure_alert(2)]

    assert await place.asker(listing(place, azure)).ask()

    assert await place.route() == 1


async def test_only_alerts_of_certain_labels_are_new(place: Place, azure: AzureAlertsDouble) -> None:
    """Those of other rules and resources are somebody else's."""
    azure.alerts = [
        azure_alert(1),
        azure_alert(2, targetResource=f"/subscriptions/{SUBSCRIPTION}/resourceGroups/other/providers/a/b/c"),
    ]

    assert await place.asker(listing(place, azure, matches=parse_matchers(['resource_group="prod"']))).ask()

    assert await place.route() == 1


PARTS: dict[str, tuple[dict[str, Any], str, int]] = {
    "its second page breaks": ({"broken_page": 1}, "500", 2),
    "its next page is somewhere else": ({"next_link": "https://evil.example/alerts"}, "next page", 2),
    "an answer by id breaks": ({"by_id_status": 503}, "503", 4),
}


@pytest.mark.parametrize("name", list(PARTS))
async def test_a_list_that_was_read_in_part_gives_what_it_has_and_ends_nothing(
    place: Place, azure: AzureAlertsDouble, name: str
) -> None:
    """It is said, and asked again soon."""
    changes, said, found = PARTS[name]
    lost = azure_alert(9)
    await place.receive(SourceKind.AZURE_MONITOR, posted(lost))
    azure.alerts = [azure_alert(number) for number in range(4)]
    for field, value in changes.items():
        setattr(azure, field, value)
    asker = place.asker(listing(place, azure))

    assert not await asker.ask()

    assert await place.route() == found
    assert said in asker.problem
    firing = await place.store.firing(source=SourceKind.AZURE_MONITOR, source_name="sender", limit=99)
    assert f"azure/{lost['id'].lower()}" in {one.instance for one in firing}


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_list_that_cannot_be_read_at_all_says_what_is_missing(
    place: Place, azure: AzureAlertsDouble, status: int
) -> None:
    """The role, or the server."""
    azure.status = status
    asker = place.asker(listing(place, azure))

    assert not await asker.ask()
    assert ("Monitoring Reader" in asker.problem) is (status != 500)


async def test_an_identity_without_a_token_is_said(place: Place, azure: AzureAlertsDouble) -> None:
    """Nothing is asked then."""
    tokens = Tokens()
    tokens.error = ForbiddenError("no such identity", system="entra")
    asker = place.asker(listing(place, azure, identity=tokens))

    assert not await asker.ask()
    assert "no such identity" in asker.problem
    assert azure.asked == []


async def test_an_azure_alert_that_fires_for_days_is_not_forgotten(place: Place, azure: AzureAlertsDouble) -> None:
    """Azure says it once; half a day later we say it again, so that it counts on."""
    azure.alerts = [azure_alert(1)]
    await place.receive(SourceKind.AZURE_MONITOR, posted(azure.alerts[0]))
    asker = place.asker(listing(place, azure, look_back=timedelta(days=7)))

    for _ in range(40):
        place.clock.forward(hours=1)
        assert await asker.ask()
        await place.route()

    assert len(await place.store.firing(source=SourceKind.AZURE_MONITOR, source_name="sender", limit=9)) == 1
    (one,) = await place.store.instances(why=None, firing=True, limit=9)
    assert 3 <= one.count <= 5


async def test_hundreds_of_doubtful_alerts_are_asked_for_in_turn(place: Place, azure: AzureAlertsDouble) -> None:
    """A hundred at a time; each gets its turn."""
    for number in range(250):
        await place.receive(SourceKind.AZURE_MONITOR, posted(azure_alert(number)))
    asker = place.asker(listing(place, azure))

    for _ in range(3):
        assert await asker.ask()

    by_id = [path for path in azure.asked if "microsoft.alertsmanagement/alerts/" in path]
    assert len(by_id) == 300
    assert len(set(by_id)) == 250


# --- the whole service


async def test_a_lost_resolved_ends_an_incident_and_the_doctor_says_how_asking_goes(
    world: World, prometheus: AlertmanagerDouble
) -> None:
    """From the API of Alertmanager to the incident, through intake and router."""
    prometheus.started_at = world.clock.now() - timedelta(days=1)
    world.config["sources"] = {
        "prometheus": {"kind": "alertmanager", "ask": {"url": prometheus.url, "receivers": ["responder"], "every": "1m"}}
    }
    world.cluster.deployment("shop", "api", image="shop/api:1", replicas=2)
    await world.cluster.wait_for(lambda: world.cluster.available("shop", "api"), within=120)
    at = world.clock.now().isoformat().replace("+00:00", "Z")
    prometheus.fire("KubePodCrashLooping", starts_at=at, deployment="api", cluster="sandbox")
    await world.start()
    incident = await world.reaches("verifying", "recovered", "waiting", "open")
    (held,) = await world.parts.store.held(incident.id)
    prometheus.alerts.clear()

    async def resolved() -> bool:
        return [one.status for one in await world.parts.store.held(incident.id)] == [R]

    await world.until(resolved)
    _, found, _ = await world.call("GET", "/v1/doctor")
    _, metrics, _ = await world.call("GET", "/metrics", token="")

    assert held.status is F
    (asking,) = [one for one in found["findings"] if one["what"] == "asking prometheus"]
    assert asking["well"], asking
    assert 'responder_source_found_total{source="prometheus",what="over"} 1.0' in metrics

    async def told() -> bool:
        return any("resolved, says its sender" in one.text for one in await world.parts.store.timeline(incident.id))

    await world.until(told)


async def test_an_outage_of_our_own_makes_us_ask_at_once(
    world: World, prometheus: AlertmanagerDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Senders were told to come back, and not all do."""
    prometheus.started_at = world.clock.now() - timedelta(days=1)
    world.config["sources"] = {
        "prometheus": {"kind": "alertmanager", "ask": {"url": prometheus.url, "receivers": ["responder"], "every": "5h"}}
    }
    await world.start()
    await world.until(lambda: "/api/v2/alerts" in prometheus.asked)
    runner = world.parts.store.runner
    real = runner.run

    async def down(*_: object) -> object:
        raise StoreUnavailableError("disk full")

    monkeypatch.setattr(runner, "run", down)
    prometheus.fire("Missed", starts_at=world.clock.now().isoformat().replace("+00:00", "Z"))
    await asyncio.sleep(1.0)
    monkeypatch.setattr(runner, "run", real)

    async def found() -> bool:
        return "Missed" in {one.name for one in await world.parts.store.instances(why=None, firing=True, limit=9)}

    await world.until(found)
