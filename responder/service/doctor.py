"""Examines a running installation end to end: store, clusters and permissions, channels, loops, senders, rules. Changes nothing but a test page.

Never here: how it is shown (``cli``, ``web``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from responder.model.alert import Severity
from responder.model.cloud import CloudAsk
from responder.model.errors import RemoteError, StoreUnavailableError
from responder.model.notice import Notice, NoticeKind, Receipt
from responder.model.reason import Reason
from responder.model.storing import DeliveryState
from responder.ports import Clock, Notifier, Source, Store
from responder.service.asking import Asker
from responder.service.permissions import Permissions
from responder.service.rulebook import Rulebook

WITHIN = timedelta(seconds=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Such as ``store`` or ``cluster prod``.
        well: Whether it is.
        said: What was seen.
        advice: What to do; "" when it is well.
    """

    what: str
    well: bool
    said: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorParts:
    """What it looks at.

    Attributes:
        stuck: Which loops stand still.
        silent_after: Senders that must be heard, by name.
        watched: An outside service is told that we live.
        public_url: Where pages link to.
        askers: Who asks senders what holds now, by the sender's name.
        receiving: What receives by itself.
        signing_keys: Says why the signing keys of our tenant cannot be had, or ""; None where no source takes signed tokens.
    """

    store: Store
    clock: Clock
    rulebook: Rulebook
    permissions: Permissions
    notifiers: Mapping[str, Notifier]
    stuck: Callable[[], Sequence[str]]
    silent_after: Mapping[str, timedelta]
    watched: bool
    public_url: str
    askers: Mapping[str, Asker] = field(default_factory=dict)
    receiving: Sequence[Source] = ()
    signing_keys: Callable[[], str] | None = None


class Doctor:
    """Examines, and sends test pages."""

    def __init__(self, parts: DoctorParts) -> None:
        self._parts = parts

    async def examine(self) -> list[Finding]:
        """Look at everything at once, each within 12 s; a part that does not answer is a finding and not an error."""
        looks: list[tuple[str, Awaitable[list[Finding]]]] = [
            ("store", self._store()),
            ("rules", self._rules()),
            ("loops", self._loops()),
            ("senders", self._senders()),
            ("outside watch", self._outside()),
        ]
        looks += [(f"cluster {name}", self._cluster(name)) for name in self._parts.permissions.views]
        looks += [(f"azure {name}", self._cloud(name)) for name in self._parts.permissions.clouds]
        looks += [(f"channel {name}", self._channel(name, one)) for name, one in self._parts.notifiers.items()]
        found = await asyncio.gather(*(_bounded(what, look) for what, look in looks))
        return [one for several in found for one in several]

    async def page(self, channel: str, *, by: str) -> Receipt:
        """Send a test page through a channel, and end it at once; return what the channel answered to the page.

        Raises:
            KeyError: There is no such channel.
            RemoteError: It was not taken.
        """
        notifier = self._parts.notifiers[channel]
        now = self._parts.clock.now()
        key = f"responder/test/{now:%Y%m%dT%H%M%S}"

        def notice(kind: NoticeKind) -> Notice:
            return Notice(
                kind=kind,
                incident="test",
                opening=1,
                level=1,
                dedup_key=key,
                at=now,
                severity=Severity.INFO,
                title=f"TEST: Responder reaches you through {channel}",
                state="This is a test, asked for by " + by,
                reason=Reason.TEST_ALERT,
                opened_at=now,
                asks="" if kind is NoticeKind.RESOLVE else "Nothing: it ends by itself",
                links=(("Responder", self._parts.public_url),) if self._parts.public_url else (),
            )

        receipt = await notifier.send(notice(NoticeKind.PAGE))
        await notifier.send(notice(NoticeKind.RESOLVE))
        return receipt

    async def _store(self) -> list[Finding]:
        store = self._parts.store
        await store.writable()
        waiting = await store.backlog()
        found = [Finding(what="store", well=True, said=f"it takes writes; {waiting} deliveries wait to be routed")]
        overdue = (await store.audit()).overdue
        if overdue:
            said = f"{overdue} incidents, deliveries or messages are late by more than two minutes"
            advice = "look for store_failed, incident_failed and loop_failed in the log; is every replica starved of CPU?"
            found.append(Finding(what="work", well=False, said=said, advice=advice))
        failed = await store.deliveries(state=DeliveryState.FAILED, limit=100)
        if failed:
            said = f"{len(failed)} deliveries could not be routed: {failed[0].note[:200]}"
            advice = "they are kept: GET /v1/deliveries?state=failed; report a bug with one of them"
            found.append(Finding(what="deliveries", well=False, said=said, advice=advice))
        if not store.steady():
            said = "its clock and ours moved apart; nothing is written to clusters for one lease"
            found.append(Finding(what="clock", well=False, said=said, advice="wait 15 s; if it stays, look after NTP on both"))
        return found

    async def _rules(self) -> list[Finding]:
        book = self._parts.rulebook
        if book.problems:
            advice = "responder check shows all problems; the last good rules stay in force"
            return [Finding(what="rules", well=False, said="; ".join(book.problems[:3]), advice=advice)]
        return [Finding(what="rules", well=True, said=f"{len(book.rules)} rules in force")]

    async def _loops(self) -> list[Finding]:
        stuck = self._parts.stuck()
        if stuck:
            advice = "the log says why (store_failed, loop_failed); a restart is safe at any moment"
            return [Finding(what="loops", well=False, said=f"standing still: {', '.join(stuck)}", advice=advice)]
        return [Finding(what="loops", well=True, said="all turn")]

    async def _senders(self) -> list[Finding]:
        wanted = self._parts.silent_after
        now = self._parts.clock.now()
        found = []
        for one in await self._parts.store.heard(list(wanted)):
            if one.failed:
                continue
            silent = one.at is None or now - one.at >= wanted[one.name]
            said = "never heard" if one.at is None else f"last heard at {one.at:%Y-%m-%d %H:%M:%S} UTC"
            advice = "post a test alert from there; look at its receiver's URL and token" if silent else ""
            found.append(Finding(what=f"sender {one.name}", well=not silent, said=said, advice=advice))
        found += [_asked(name, one) for name, one in self._parts.askers.items()]
        found += [_received(one) for one in self._parts.receiving]
        if self._parts.signing_keys is not None:
            problem = self._parts.signing_keys()
            said = problem or "the keys that signed tokens are checked with are there"
            advice = (
                "let http.entra.authority be reached (port 443); secure webhooks are answered 503 without keys" if problem else ""
            )
            found.append(Finding(what="entra keys", well=not problem, said=said, advice=advice))
        return found

    async def _outside(self) -> list[Finding]:
        if self._parts.watched:
            return [Finding(what="outside watch", well=True, said="an outside service is told that we live")]
        advice = "set heartbeat.url to a service outside of what this looks after: who watches the watcher?"
        return [Finding(what="outside watch", well=False, said="nobody would notice if this installation died", advice=advice)]

    async def _cluster(self, name: str) -> list[Finding]:
        lacks = await self._parts.permissions.missing(name)
        if not lacks:
            return [Finding(what=f"cluster {name}", well=True, said="it answers and grants everything that is needed")]
        said = f"it answers, but does not grant {'; '.join(map(str, lacks[:5]))}" + (
            f" and {len(lacks) - 5} more" if lacks[5:] else ""
        )
        return [
            Finding(
                what=f"cluster {name}", well=False, said=said, advice="responder rbac --config … prints the roles that are needed"
            )
        ]

    async def _cloud(self, name: str) -> list[Finding]:
        cloud = await self._parts.permissions.clouds[name].read(CloudAsk())
        said = f"ARM answers: {cloud.provisioning_state}, {cloud.power_state}, {len(cloud.pools)} node pools"
        lacks = await self._parts.permissions.missing_in_cloud(name)
        if not lacks:
            return [Finding(what=f"azure {name}", well=True, said=f"{said}, and grants everything that is needed")]
        missing = "; ".join(map(str, lacks[:5])) + (f" and {len(lacks) - 5} more" if lacks[5:] else "")
        advice = "create the role definitions of helm/files/azure and assign them to our identity (README, Azure)"
        return [Finding(what=f"azure {name}", well=False, said=f"{said}, but does not grant {missing}", advice=advice)]

    async def _channel(self, name: str, notifier: Notifier) -> list[Finding]:
        await notifier.reach()
        said = f"its address answers; responder doctor --page {name} proves that people are reached"
        return [Finding(what=f"channel {name}", well=True, said=said)]


def _asked(name: str, one: Asker) -> Finding:
    at = f"last read completely at {one.asked_at:%Y-%m-%d %H:%M:%S} UTC" if one.asked_at is not None else "never read completely"
    said = f"{at}: {one.problem}" if one.problem else at
    advice = f"look after sources.{name}.ask; until then a Resolved that was lost is not found" if one.problem else ""
    return Finding(what=f"asking {name}", well=not one.problem, said=said, advice=advice)


def _received(one: Source) -> Finding:
    advice = f"look after sources.{one.name}; what is sent waits in its queue meanwhile" if one.problem else ""
    return Finding(what=f"source {one.name}", well=not one.problem, said=one.problem or "it receives", advice=advice)


_ADVICE = {
    "azure": "look after the identity (azure: in responder.yaml, the service account's annotation), its roles, and the way to management.azure.com",
    "store": "look after its disk, its server, the network to it; senders are told to come back meanwhile",
    "cluster": "look after its API server, the kubeconfig or the service account, and the network policy",
    "channel": "look after DNS, the proxy, the network policy's egress",
}


async def _bounded(what: str, look: Awaitable[list[Finding]]) -> list[Finding]:
    try:
        async with asyncio.timeout(WITHIN.total_seconds()):
            return await look
    except (RemoteError, StoreUnavailableError, TimeoutError) as error:
        said = str(error) or f"no answer within {WITHIN.total_seconds():g} s"
        return [Finding(what=what, well=False, said=said, advice=_ADVICE.get(what.partition(" ")[0], ""))]
