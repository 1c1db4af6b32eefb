"""Speaks to a running service. Synchronous, on the standard library: a command line tool that must work on a broken night."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any

from responder.model.errors import ResponderError

WITHIN_SECONDS = 15


class ServiceError(ResponderError):
    """The service refused or did not answer."""


def call(method: str, path: str, *, url: str, body: Any = None) -> Any:
    """Call the API and return its JSON, or text where it answers text.

    Raises:
        ServiceError: It refused, with its own words, or did not answer.
    """
    headers = {"Accept": "application/json"}
    token = os.environ.get("RESPONDER_TOKEN", "")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    if not url.startswith(("http://", "https://")):
        raise ServiceError(f"{url!r} is no address of a service; give --url http://… or set RESPONDER_URL")
    request = urllib.request.Request(url.rstrip("/") + path, data=data, headers=headers, method=method)  # noqa: S310 - http(s) was checked
    try:
        with urllib.request.urlopen(request, timeout=WITHIN_SECONDS) as response:  # noqa: S310 - http(s) was checked
            raw = response.read()
            kind = response.headers.get_content_type()
    except urllib.error.HTTPError as error:
        hint = ""
        if error.code == HTTPStatus.UNAUTHORIZED:
            hint = "; RESPONDER_TOKEN holds what was sent" if token else "; set RESPONDER_TOKEN to yours"
        raise ServiceError(_said(error) + hint) from error
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise ServiceError(f"{method} {url}{path}: no answer ({error}); is the service running there?") from error
    return json.loads(raw) if kind == "application/json" else raw.decode()


def _said(error: urllib.error.HTTPError) -> str:
    try:
        body = json.loads(error.read())["error"]
        return f"{error.code}: {body['what']}" + (f"; {body['do']}" if body.get("do") else "")
    except (ValueError, KeyError, TypeError):
        return f"{error.code}: {error.reason}"
