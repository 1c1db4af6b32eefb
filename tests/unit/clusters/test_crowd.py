"""Workloads of one namespace are read together when many of them are judged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from responder.clusters.kubernetes.client import KubernetesClient
from responder.clusters.kubernetes.crowd import BIG_FOR, MANY, WINDOW, Crowd, Crowds
from responder.clusters.kubernetes.sharing import SHARED_FOR, Shared
from responder.clusters.kubernetes.view import path_of
from responder.model.errors import ForbiddenError
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.looptime
START = datetime(2026, 1, 5, tzinfo=UTC)


def _meta(name: str, owner: str = "", **labels: str) -> dict[str, Any]:
    owners = [{"kind": "x", "name": "x", "uid": owner, "controller": True}] if owner else []
    return {"name": name, "namespace": "shop", "uid": f"uid-{name}", "labels": labels, "ownerReferences": owners}


OBJECTS: dict[str, list[dict[str, Any]]] = {
    "deployments": [
        {"metadata": _meta("web"), "spec": {"selector": {"matchLabels": {"app": "web"}}}},
        {"metadata": _meta("api")},
    ],
    "replicasets": [{"metadata": _meta("web-1", "uid-web", app="web")}, {"metadata": _meta("web-2", "uid-web", app="other")}],
    "pods": [
        {"metadata": _meta("web-1-a", "uid-web-1", app="web")},
        {"metadata": _meta("web-1-b", "uid-web-1", app="released")},
        {"metadata": _meta("bare", app="web")},
    ],
}


class Server(KubernetesClient):
    """Answers lists, and notes what was asked."""

    def __init__(self, *, more: str = "", may_list: bool = True) -> None:
        self.asked: list[str] = []
        self._more, self._may_list = more, may_list

    async def page(self, path: str, kind: Any) -> Any:
        self.asked.append(path)
        if not self._may_list:
            raise ForbiddenError("not you", system="kubernetes", operation="list", target=path, status=403)
        plural = path.rpartition("/")[2]
        return None if plural == self._more else msgspec.json.decode(msgspec.json.encode({"items": OBJECTS[plural]}), type=kind)


class Namespace:
    """A namespace with a clock."""

    def __init__(self, server: Server) -> None:
        self.clock = FakeClock(START)
        self.crowds = Crowds(server, path_of, Shared(now=self.clock.now), now=self.clock.now)

    async def of(self) -> Crowd | None:
        return await self.crowds.of("Deployment", "shop")


async def test_the_first_ask_for_themselves_and_the_others_share_three_lists() -> None:
    """One workload costs three small requests; twenty would cost sixty."""
    server = Server()
    shop = Namespace(server)

    found = [await shop.of() for _ in range(20)]

    assert [one is None for one in found] == [True] * MANY + [False] * (20 - MANY)
    assert sorted(server.asked) == [f"/{one}" for one in (
        "api/v1/namespaces/shop/pods", "apis/apps/v1/namespaces/shop/deployments", "apis/apps/v1/namespaces/shop/replicasets",
    )]  # fmt: skip


async def test_a_workload_gets_what_it_owns_and_its_selector_finds() -> None:
    """As a list by its selector and a look at the owners would have it."""
    shop = Namespace(Server())
    crowd = [await shop.of() for _ in range(MANY + 1)][-1]
    assert crowd is not None
    web = crowd.workload("web")
    assert web is not None

    sets = crowd.sets(web)
    pods = crowd.pods(web, [one.metadata.uid for one in sets])

    assert [one.metadata.name for one in sets] == ["web-1"]
    assert [one.metadata.name for one in pods] == ["web-1-a"]
    assert crowd.workload("nobody") is None


async def test_it_says_when_it_was_asked_for_and_is_read_anew_after_seconds() -> None:
    """A reading must not pass for fresher than it is."""
    server = Server()
    shop = Namespace(server)
    for _ in range(MANY + 1):
        await shop.of()
    shop.clock.forward(seconds=2)
    kept = await shop.of()
    shop.clock.forward(seconds=SHARED_FOR.total_seconds())
    fresh = await shop.of()

    assert kept is not None
    assert fresh is not None
    assert kept.read_at == START
    assert fresh.read_at == START + timedelta(seconds=2) + SHARED_FOR
    assert len(server.asked) == 6


@pytest.mark.parametrize("server", [Server(more="pods"), Server(may_list=False)], ids=["more than a page", "forbidden"])
async def test_a_namespace_that_cannot_be_listed_in_a_page_is_left_alone_for_a_while(server: Server) -> None:
    """Each of its workloads is read by itself."""
    shop = Namespace(server)

    assert [await shop.of() for _ in range(10)] == [None] * 10
    assert len(server.asked) == 3
    assert BIG_FOR > WINDOW
