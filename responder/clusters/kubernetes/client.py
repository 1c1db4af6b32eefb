"""One thin client: bytes in, bytes out, every call bounded, every answer translated into our errors."""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import aiohttp
import msgspec
from yarl import URL

from responder import __version__
from responder.clusters.kubernetes.kubeconfig import ConfigException, Configuration, kube_config
from responder.model.errors import (
    BlockedError,
    ContestedError,
    ForbiddenError,
    GoneError,
    RejectedError,
    RemoteError,
    SettingsError,
    ThrottledError,
    TransientError,
)
from responder.retrying import asked_pause, repeated

T = TypeVar("T")
FIELD_MANAGER = "responder"
READ_WITHIN = timedelta(seconds=5)
PAGE = 500
RENEWED_EVERY = timedelta(seconds=30)
QUIET_AT_MOST = timedelta(seconds=30)
"""A longer Retry-After is not believed: an incident may not wait for a proxy's default."""

SYSTEM = "kubernetes"


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct, rename="camel"):
    causes: list[_Cause] | None = None
    retry_after_seconds: int | None = None


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    details: _Details | None = None


class _ListMeta(msgspec.Struct):
    continue_: str | None = msgspec.field(name="continue", default=None)


class _Envelope(msgspec.Struct):
    metadata: _ListMeta


@dataclass(slots=True)
class Access:
    """A loaded identity and how to load it anew (tokens expire, exec plugins are run once: kubernetes.md B4).

    Attributes:
        configuration: None while nothing was loaded: the address of an AKS cluster is asked of ARM when it is first needed.
        reload: Loads it.
        token: Gives a token for each request, where it does not come with the configuration; None otherwise.
    """

    configuration: Configuration | None
    reload: Callable[[], Awaitable[Configuration]]
    token: Callable[[], Awaitable[str]] | None = None


async def load_access(name: str, in_cluster: bool, kubeconfig: str, context: str) -> Access:
    """Load how to reach a cluster.

    Raises:
        SettingsError: It cannot be loaded.
    """

    async def load() -> Configuration:
        configuration = Configuration()
        if (
            kubeconfig and not in_cluster and not await asyncio.to_thread(Path(kubeconfig).is_file)
        ):  # the library prints so, and then misses a key
            raise SettingsError(f"clusters.{name}: there is no kubeconfig {kubeconfig}; mount it or correct the path")
        try:
            if in_cluster:
                kube_config.load_incluster_config(client_configuration=configuration)
            else:
                await kube_config.load_kube_config(
                    config_file=kubeconfig or None,
                    context=context or None,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (ConfigException, OSError, ValueError) as error:
            where = "the pod's service account" if in_cluster else f"kubeconfig {kubeconfig or '(default)'}"
            raise SettingsError(f"clusters.{name}: {where} cannot be used: {error}") from error
        return configuration

    return Access(configuration=await load(), reload=load)


def found_access(find: Callable[[], Awaitable[tuple[str, str]]], token: Callable[[], Awaitable[str]]) -> Access:
    """Return how to reach a cluster whose address and CA file ("" for the public CAs) are found out, and whose tokens come from elsewhere."""

    async def load() -> Configuration:
        host, authority = await find()
        configuration = Configuration()
        configuration.host = host
        if authority:
            configuration.ssl_ca_cert = authority
        return configuration

    return Access(configuration=None, reload=load, token=token)


class KubernetesClient:
    """Talks to one API server."""

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self._access = access
        self._session: aiohttp.ClientSession | None = None
        self._way: tuple[str, bytes, bytes] | None = None
        self._renew_at = 0.0
        self._quiet_until = 0.0

    async def _loaded(self) -> Configuration:
        """Return the configuration, found out first where it must be.

        Raises:
            RemoteError: It could not be found out.
        """
        if self._access.configuration is None:
            self._access.configuration = await self._access.reload()
        return self._access.configuration

    def _open(self, configuration: Configuration) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            tls: ssl.SSLContext | bool = True
            if str(configuration.host).startswith("https:"):
                tls = _tls(configuration)
            self._way = _way_of(configuration)
            connector = aiohttp.TCPConnector(limit=64, ssl=tls)
            self._session = aiohttp.ClientSession(
                connector=connector,
                trust_env=False,
                headers={"User-Agent": f"responder/{__version__}", "Accept": "application/json"},
            )
        return self._session

    async def _renewed(self) -> bool:
        """Load how to reach the cluster anew after no connection could be made, and tell whether it is another way now, at most every half minute.

        A CA that was rotated, or an address that was moved, is never answered with a 401: without this only a restart would find it.
        """
        now = asyncio.get_running_loop().time()
        if now < self._renew_at:
            return False
        self._renew_at = now + RENEWED_EVERY.total_seconds()
        try:
            fresh = await self._access.reload()
            way = _way_of(fresh)
        except (SettingsError, RemoteError, OSError):
            return False  # what could not be reached before is what is said
        self._access.configuration = fresh
        if way == self._way:
            return False
        old, self._session = self._session, None
        if old is not None and not old.closed:
            await old.close()
        return True

    async def _headers(self, configuration: Configuration) -> dict[str, str]:
        if self._access.token is not None:
            return {"Authorization": f"Bearer {await self._access.token()}"}
        hook: Callable[[Configuration], None] | None = configuration.refresh_api_key_hook
        if hook is not None:
            with contextlib.suppress(
                ConfigException, OSError, ValueError
            ):  # a token that is being rotated: the last one is good for minutes yet
                hook(configuration)
        token = str(configuration.api_key.get("BearerToken", "")).strip()
        if token and not token.lower().startswith("bearer "):
            token = f"Bearer {token}"
        return {"Authorization": " ".join(token.split())} if token else {}

    async def read(
        self, path: str, kind: type[T], *, query: Mapping[str, str] | None = None, within: timedelta = READ_WITHIN
    ) -> T:
        """GET a path and decode it; repeated twice at most while it fails transiently."""

        async def once() -> bytes:
            return await self.send("GET", path, query=query, within=within)

        return _decoded(await repeated(once, within=within * 2), kind, path)

    async def pages(
        self, path: str, kind: type[T], *, query: Mapping[str, str] | None = None, within: timedelta = READ_WITHIN
    ) -> list[T]:
        """GET a list in pages of 500 and decode each; an expired continue token begins once anew."""
        for last in (False, True):
            found: list[T] = []
            token = ""
            try:
                while True:
                    body = await self._page(path, {**(query or {}), **({"continue": token} if token else {})}, within)
                    found.append(_decoded(body, kind, path))
                    token = _continue(body)
                    if not token:
                        return found
            except GoneError:
                if last or not token:
                    raise
        return []

    async def page(self, path: str, kind: type[T]) -> T | None:
        """GET a list that fits into a page; None when it has more."""
        body = await self._page(path, {}, READ_WITHIN)
        return None if _continue(body) else _decoded(body, kind, path)

    async def _page(self, path: str, query: Mapping[str, str], within: timedelta) -> bytes:
        asked = {**query, "limit": str(PAGE)}

        async def once() -> bytes:
            return await self.send("GET", path, query=asked, within=within)

        return await repeated(once, within=within * 2)

    async def raw(
        self, path: str, *, query: Mapping[str, str] | None = None, within: timedelta = READ_WITHIN, most: int = 1 << 20
    ) -> tuple[bytes, bool]:
        """GET bytes exactly as sent, at most ``most`` of them, and whether more was there."""
        body = await self.send("GET", path, query=query, within=within, most=most + 1)
        return body[:most], len(body) > most

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        within: timedelta = READ_WITHIN,
        most: int | None = None,
    ) -> bytes:
        """Send one request once (twice after a 401: the token is loaded anew) and return the body of a 2xx answer.

        Raises:
            RemoteError: See ``ports.ClusterHands.write``.
        """
        data = msgspec.json.encode(body) if body is not None else None
        self._keep_quiet(method, path)
        try:
            try:
                status, answer, headers = await self._once(method, path, query, data, content_type, within, most)
            except aiohttp.ClientConnectorError:  # nothing was sent
                if not await self._renewed():
                    raise
                status, answer, headers = await self._once(method, path, query, data, content_type, within, most)
            if status == 401:
                self._access.configuration = await self._access.reload()
                status, answer, headers = await self._once(method, path, query, data, content_type, within, most)
        except SettingsError as error:
            raise ForbiddenError(str(error), system=SYSTEM, operation=method, target=path, status=401) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = str(error) or type(error).__name__
            raise TransientError(
                f"no answer within {within.total_seconds():g} s: {said}", system=SYSTEM, operation=method, target=path
            ) from error
        if 200 <= status < 300:
            return answer
        refused = _refused(status, answer, headers, method, path)
        if isinstance(refused, ThrottledError) and not isinstance(refused, BlockedError) and refused.retry_after is not None:
            wait = min(refused.retry_after, QUIET_AT_MOST).total_seconds()
            self._quiet_until = asyncio.get_running_loop().time() + wait
        raise refused

    def _keep_quiet(self, method: str, path: str) -> None:
        """Ask nothing while the API server wants to be left alone: its 429 with Retry-After is for the whole client (kubernetes.md A2).

        Raises:
            ThrottledError: It still does; nothing was sent.
        """
        left = self._quiet_until - asyncio.get_running_loop().time()
        if left <= 0:
            return
        error = ThrottledError("the API server asked for quiet", system=SYSTEM, operation=method, target=path, status=429)
        error.retry_after = timedelta(seconds=math.ceil(left))
        raise error

    async def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str,
        within: timedelta,
        most: int | None,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        configuration = await self._loaded()
        headers = await self._headers(configuration)
        if data is not None:
            headers["Content-Type"] = content_type
        url = URL(str(configuration.host).rstrip("/") + path)
        timeout = aiohttp.ClientTimeout(total=within.total_seconds(), connect=min(3.0, within.total_seconds()))
        proxy = configuration.proxy or None
        async with self._open(configuration).request(
            method,
            url,
            params=dict(query) if query else None,
            data=data,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            proxy=proxy,
        ) as response:
            if most is None:
                return response.status, await response.read(), response.headers
            chunks: list[bytes] = []
            size = 0
            async for chunk in response.content.iter_chunked(1 << 16):
                chunks.append(chunk)
                size += len(chunk)
                if size >= most:
                    break
            return response.status, b"".join(chunks)[:most], response.headers

    async def lines(self, path: str, *, query: Mapping[str, str], silent_for: timedelta, longest: int) -> AsyncIterator[bytes]:
        """Open a watch and give its lines until the server ends it.

        Args:
            path: Of the list.
            query: Of the watch.
            silent_for: Longest silence between two pieces; a dead connection says nothing.
            longest: Bytes of the longest line.

        Raises:
            RemoteError: Refused, broken, silent, or a line that is too long.
        """
        configuration = await self._loaded()
        url = URL(str(configuration.host).rstrip("/") + path)
        timeout = aiohttp.ClientTimeout(total=None, connect=3.0, sock_read=silent_for.total_seconds())
        proxy = configuration.proxy or None
        headers = await self._headers(configuration)
        rest = b""
        try:
            async with self._open(configuration).get(
                url, params=dict(query), headers=headers, timeout=timeout, allow_redirects=False, proxy=proxy
            ) as response:
                if response.status != 200:
                    if response.status == 401:
                        self._access.configuration = await self._access.reload()
                    raise _refused(response.status, await response.content.read(4096), response.headers, "WATCH", path)
                async for piece in response.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        if line:
                            yield line
                    if len(rest) > longest:
                        raise self.trouble(500, f"a line of more than {longest} bytes", path)
        except SettingsError as error:
            raise ForbiddenError(str(error), system=SYSTEM, operation="WATCH", target=path, status=401) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                await self._renewed()  # for the next time: a watch is opened again by whoever follows
            said = str(error) or f"nothing was heard for {silent_for.total_seconds():g} s"
            raise TransientError(said, system=SYSTEM, operation="WATCH", target=path) from error

    def decoded(self, decode: Callable[[bytes | msgspec.Raw], T], body: bytes | msgspec.Raw, path: str) -> T:
        """Decode an answer.

        Raises:
            TransientError: It is not understood.
        """
        try:
            return decode(body)
        except msgspec.DecodeError as error:
            said = f"an answer that is not understood: {error}"
            raise TransientError(said, system=SYSTEM, operation="WATCH", target=path) from error

    def trouble(self, status: int, message: str, path: str) -> RemoteError:
        """Return the error for a status that came inside a watch."""
        return _refused(status, msgspec.json.encode({"message": message}), {}, "WATCH", path)

    async def close(self) -> None:
        """Close connections; idempotent."""
        if self._session is not None and not self._session.closed:
            await self._session.close()
            await asyncio.sleep(0)


def _way_of(configuration: Configuration) -> tuple[str, bytes, bytes]:
    """Return what a connection is made by: the address, whom we trust, and who we are to TLS."""
    files = (configuration.ssl_ca_cert, configuration.cert_file)
    authority, ours = (Path(one).read_bytes() if one else b"" for one in files)
    return str(configuration.host), authority, ours


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _decoded(body: bytes, kind: type[T], path: str) -> T:
    try:
        found: T = _decoder(cast("Any", kind)).decode(body)
    except msgspec.DecodeError as error:
        raise TransientError(f"an answer that is not understood: {error}", system=SYSTEM, operation="GET", target=path) from error
    return found


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def _continue(body: bytes) -> str:
    return _ENVELOPE.decode(body).metadata.continue_ or ""


def _refused(status: int, answer: bytes, headers: Mapping[str, str], method: str, path: str) -> RemoteError:
    try:
        said = msgspec.json.decode(answer, type=_Status)
    except msgspec.DecodeError:
        said = _Status(message=answer[:200].decode("utf-8", "replace"))
    message = said.message or said.reason or "no reason given"
    kind: type[RemoteError] = RejectedError
    causes = [one.reason for one in (said.details.causes or [])] if said.details else []
    if status in {401, 403}:
        kind = ForbiddenError
        if "NamespaceTerminating" in causes:
            kind = TransientError
    elif status in {404, 410}:
        kind = GoneError
    elif status == 409 or (status == 422 and _is_test_failure(message)):
        kind = ContestedError
    elif status == 429:
        kind = BlockedError if "DisruptionBudget" in causes else ThrottledError
    elif status >= 500 and "more than one PodDisruptionBudget" not in message:
        kind = TransientError
    error = kind(message, system=SYSTEM, operation=method, target=path, status=status)
    if isinstance(error, ThrottledError):
        seconds = headers.get("Retry-After", "") or str((said.details.retry_after_seconds if said.details else None) or "")
        error.retry_after = asked_pause(seconds, date=headers.get("Date", ""))
    return error


def _is_test_failure(message: str) -> bool:
    """A json-patch ``test`` that fails is a 422 with these words (kubernetes.md A16 case 58); so is a patch whose UID is another."""
    said = message.lower()
    if "metadata.uid" in said and "immutable" in said:
        return True  # a patch that names another UID: the object of that name is another one now
    tested = "test" in said and ("failed" in said or "testing value" in said)
    return tested or "the server rejected our request due to an error in our request" in said
