"""Follows one kind of object: lists it in pages, then watches from there, and goes on whatever the API server does.

Source: kubernetes.md B3. List, watch with bookmarks; after an end or an error resume from the last version, after 410 list anew; a connection that says
nothing is given up; back-off with jitter; a full list now and then.

The decision a reader would question: no object is kept. Each is decoded into the few fields that are needed, given to the keeper, and forgotten; 5,000
pods cost what their symptoms cost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from responder.clusters.kubernetes.client import PAGE, READ_WITHIN, KubernetesClient
from responder.model.errors import GoneError, RemoteError
from responder.retrying import repeated
from responder.telemetry import logger

WATCH_FOR = timedelta(seconds=290)
"""What is asked of the server (B3); it ends the watch, and the next one resumes."""

SILENT_FOR = timedelta(seconds=150)
"""A server sends a bookmark about every minute: two missed ones and the connection is taken for dead."""

LIST_AGAIN = timedelta(hours=1)
LONGEST_PAUSE = 30.0
LARGEST_LINE = 16 << 20


class MetaLike(Protocol):
    """What is needed of an object's ``metadata``."""

    @property
    def uid(self) -> str:
        """Of the object."""

    @property
    def resource_version(self) -> str:
        """As the server gave it."""


class HasMeta(Protocol):
    """An object as this adapter decodes it."""

    @property
    def metadata(self) -> MetaLike:
        """Its ``metadata``."""


T = TypeVar("T", bound=HasMeta)
K_contra = TypeVar("K_contra", bound=HasMeta, contravariant=True)


class Keeper(Protocol[K_contra]):
    """Takes in what an informer sees."""

    def put(self, one: K_contra) -> None:
        """Take an object that is there, new or changed."""

    def drop(self, one: K_contra) -> None:
        """Forget an object that is gone."""

    def keep_only(self, uids: set[str]) -> None:
        """Forget every object that a full list did not have."""


class _ListMeta(msgspec.Struct, rename="camel", gc=False):
    resource_version: str = ""
    continue_: str | None = msgspec.field(name="continue", default=None)


class _Line(msgspec.Struct, gc=False):
    type: str = ""
    object: msgspec.Raw = msgspec.Raw(b"{}")


class _Trouble(msgspec.Struct):
    code: int = 0
    message: str = ""


class Informer(Generic[T]):
    """Follows one kind of object in all namespaces.

    Attributes:
        fresh: It has listed, and its watch is open or was until a moment ago.
    """

    def __init__(
        self,
        client: KubernetesClient,
        path: str,
        kind: type[T],
        keeper: Keeper[T],
        *,
        heard: Callable[[], None] = lambda: None,
        silent_for: timedelta = SILENT_FOR,
    ) -> None:
        """Make one.

        Args:
            client: With connections of its own: watches hold them.
            path: Such as ``/api/v1/pods``.
            kind: The Struct of one object.
            keeper: Takes in what is seen.
            heard: Called whenever the server said something.
            silent_for: After this long without a line the connection is given up.
        """
        self._client = client
        self._path = path
        self._pages = msgspec.json.Decoder(_page_of(kind))
        self._objects = msgspec.json.Decoder(kind)
        self._lines = msgspec.json.Decoder(_Line)
        self._troubles = msgspec.json.Decoder(_Trouble)
        self._keeper = keeper
        self._heard = heard
        self._silent_for = silent_for
        self._version = ""
        self.fresh = False

    async def run(self) -> None:
        """Follow until cancelled."""
        failures = 0
        loop = asyncio.get_running_loop()
        listed_at = 0.0
        while True:
            began = loop.time()
            try:
                if not self._version or began - listed_at > LIST_AGAIN.total_seconds():
                    await self.list_all()
                    listed_at = loop.time()
                self.fresh = True
                await self._watch()
                lasted = loop.time() - began
                failures = 0 if lasted > 1 else failures + 1  # a server that closes at once is not hammered
            except GoneError:
                self._version = ""
                failures += 1
            except (RemoteError, TimeoutError) as error:
                failures += 1
                self.fresh = failures <= 1
                logger().warning(
                    "watch_failed", cluster=self._client.name, path=self._path, problem=str(error), failures=failures
                )
            if failures:
                pause = min(LONGEST_PAUSE, 0.2 * 2 ** min(failures, 10))
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, keeps no secret

    async def list_all(self) -> None:
        """List everything in pages and tell the keeper; an expired page begins once anew.

        Raises:
            RemoteError: It could not be read.
        """
        put = self._keeper.put
        for last in (False, True):
            uids: set[str] = set()
            token, version = "", ""
            try:
                while True:
                    page = await self._page({"continue": token} if token else {})
                    self._heard()
                    version = version or page.metadata.resource_version
                    items = page.items or ()
                    uids.update([one.metadata.uid for one in items])
                    for one in items:
                        put(one)
                    token = page.metadata.continue_ or ""
                    if not token:
                        self._keeper.keep_only(uids)
                        self._version = version
                        return
            except GoneError:
                if last or not token:
                    raise

    async def _page(self, query: Mapping[str, str]) -> Any:
        async def once() -> bytes:
            return await self._client.send("GET", self._path, query={**query, "limit": str(PAGE)}, within=READ_WITHIN * 2)

        body = await repeated(once, within=READ_WITHIN * 4)
        return self._client.decoded(self._pages.decode, body, self._path)

    async def _watch(self) -> None:
        """Watch from the last version until the server ends it.

        Raises:
            GoneError: The version is too old.
            RemoteError: Anything else went wrong; the version stands, so nothing is missed.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(int(WATCH_FOR.total_seconds() * random.uniform(0.9, 1.0))),  # noqa: S311
        }
        async for line in self._client.lines(self._path, query=query, silent_for=self._silent_for, longest=LARGEST_LINE):
            self._heard()
            self._take(line)

    def _take(self, line: bytes) -> None:
        event = self._client.decoded(self._lines.decode, line, self._path)
        if event.type == "ERROR":
            said = self._client.decoded(self._troubles.decode, event.object, self._path)
            raise self._client.trouble(said.code or 500, said.message, self._path)
        one = self._client.decoded(self._objects.decode, event.object, self._path)
        if event.type in {"ADDED", "MODIFIED"}:
            self._keeper.put(one)
        elif event.type == "DELETED":
            self._keeper.drop(one)  # what is left is a bookmark: only its version counts
        self._version = one.metadata.resource_version or self._version


def _page_of(kind: type[T]) -> Any:
    return msgspec.defstruct(
        f"{kind.__name__}Page",
        [("metadata", _ListMeta, msgspec.field(default_factory=_ListMeta)), ("items", list[kind] | None, None)],  # type: ignore[valid-type]
        gc=False,
    )
