"""Which revisions are remembered as healthy: a crash loop is available for seconds too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import cast

from responder.model.errors import TransientError
from responder.ports import ClusterView
from responder.service.observer import Observer
from responder.service.reading import _settled
from responder.stores import open_memory
from tests import builders as make
from tests.fakes.clock import FakeClock


class Cluster:
    """A view of which only healthy revisions are asked."""

    def __init__(self) -> None:
        self.healthy: Sequence[str] = ()
        self.down = False

    async def healthy_revisions(self) -> Sequence[str]:
        if self.down:
            raise TransientError("no answer", system="kubernetes")
        return self.healthy


async def test_a_revision_is_remembered_when_two_looks_in_a_row_saw_it_healthy() -> None:
    """One look proves nothing, and a cluster that does not answer changes nothing."""
    store, cluster = open_memory(FakeClock()), Cluster()
    observer = Observer(views={"prod": cast("ClusterView", cluster)}, store=store)
    keys = ["prod/shop/Deployment/good", "prod/shop/Deployment/blip"]

    cluster.healthy = ["shop/Deployment/good", "shop/Deployment/blip"]
    await observer.observe()
    once = await store.seen_healthy(keys)
    cluster.down = True
    await observer.observe()
    cluster.down, cluster.healthy = False, ["shop/Deployment/good"]
    await observer.observe()

    assert once == []
    assert await store.seen_healthy(keys) == ["prod/shop/Deployment/good"]
    await store.close()


def test_a_revision_that_is_ready_for_seconds_is_not_remembered() -> None:
    """Steadily ready, for minutes."""
    revisions = (replace(make.revision("new", 1, current=True), ready=2),)
    steady = tuple(make.pod(name, ready_since=make.NOON - timedelta(minutes=5)) for name in ("a", "b"))
    blip = (steady[0], make.pod("b", ready_since=make.NOON - timedelta(seconds=3)))

    assert _settled(make.workload(pods=steady, revisions=revisions), "new", now=make.NOON)
    assert not _settled(make.workload(pods=blip, revisions=revisions), "new", now=make.NOON)
