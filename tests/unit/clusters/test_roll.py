"""Many look-ups of one kind are one list."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from responder.clusters.kubernetes.roll import LASTS, MANY, Roll
from responder.clusters.kubernetes.view import path_of
from responder.model.errors import ForbiddenError, GoneError

pytestmark = pytest.mark.looptime


class Server:
    """Answers GETs and lists of Deployments ``app-0`` to ``app-99`` in ``shop``, and notes what was asked."""

    def __init__(self, *, may_list: bool = True) -> None:
        self.asked: list[str] = []
        self._may_list = may_list

    async def read(self, path: str, kind: Any) -> Any:
        self.asked.append(path)
        name = path.rpartition("/")[2]
        if name not in {f"app-{number}" for number in range(101)}:
            raise GoneError("there is none", system="kubernetes", operation="read", target=path, status=404)
        return msgspec.convert({"metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}"}}, kind)

    async def pages(self, path: str, kind: Any) -> Any:
        self.asked.append(path)
        if not self._may_list:
            raise ForbiddenError("not you", system="kubernetes", operation="list", target=path, status=403)
        items = [{"metadata": {"name": f"app-{n}", "namespace": "shop", "uid": f"uid-app-{n}"}} for n in range(100)]
        return [msgspec.convert({"items": items}, kind)]


async def ask(roll: Roll, *names: str) -> list[str | None]:
    found = await asyncio.gather(*(roll.get("Deployment", "shop", name) for name in names))
    return [one.metadata.uid if one is not None else None for one in found]


async def test_a_storm_asks_once_and_a_few_alerts_ask_for_themselves() -> None:
    """A thousand look-ups would cost the API server a thousand requests just when something is wrong with it."""
    server = Server()
    roll = Roll(server, path_of)  # type: ignore[arg-type]

    found = await ask(roll, *(f"app-{number}" for number in range(100)))

    assert found == [f"uid-app-{number}" for number in range(100)]
    assert len(server.asked) == MANY + 1
    assert server.asked.count("/apis/apps/v1/deployments") == 1


async def test_what_a_list_does_not_name_is_asked_for_by_itself() -> None:
    """It may be newer than the list; absent is said only by its own answer."""
    server = Server()
    roll = Roll(server, path_of)  # type: ignore[arg-type]
    await ask(roll, *(f"app-{number}" for number in range(100)))

    assert await ask(roll, "app-100", "nobody") == ["uid-app-100", None]
    assert server.asked[-2:] == [
        "/apis/apps/v1/namespaces/shop/deployments/app-100",
        "/apis/apps/v1/namespaces/shop/deployments/nobody",
    ]


async def test_who_may_not_list_asks_for_each() -> None:
    """A role for some namespaces resolves targets as well."""
    server = Server(may_list=False)
    roll = Roll(server, path_of)  # type: ignore[arg-type]

    found = await ask(roll, *(f"app-{number}" for number in range(100)))

    assert found == [f"uid-app-{number}" for number in range(100)]


async def test_a_list_is_forgotten() -> None:
    """It answers for seconds only, and holds no memory when the storm is over."""
    server = Server()
    roll = Roll(server, path_of)  # type: ignore[arg-type]
    await ask(roll, *(f"app-{number}" for number in range(100)))
    await asyncio.sleep(LASTS + 1)
    asked = len(server.asked)

    assert await ask(roll, "app-1") == ["uid-app-1"]
    assert server.asked[asked:] == ["/apis/apps/v1/namespaces/shop/deployments/app-1"]
    assert roll._lists == {}
