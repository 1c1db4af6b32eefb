"""The API's description, written by hand beside its routes; a test compares both."""

from __future__ import annotations

from typing import Any

from responder import __version__


def _operation(summary: str, *, ok: str = "200", body: bool = False) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {ok: {"description": "done"}, "default": {"$ref": "#/components/responses/Refusal"}},
    }
    if body:
        operation["requestBody"] = {"content": {"application/json": {"schema": {}}}}
    return operation


_INCIDENT = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}

OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Responder", "version": __version__, "description": "Alerts in, proven recoveries or pages out."},
    "security": [{"bearer": []}, {"basic": []}],
    "paths": {
        "/v1/alerts/{source}/{name}": {
            "parameters": [
                {
                    "name": "source",
                    "in": "path",
                    "required": True,
                    "schema": {"enum": ["alertmanager", "azure-monitor", "event-grid"]},
                },
                {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},
            ],
            "post": _operation(
                "Deliver alerts; 202 once durable, 200 to Event Grid's validation, 503 with Retry-After to be repeated",
                ok="202",
                body=True,
            ),
            "options": _operation("Event Grid only: permission to send CloudEvents"),
        },
        "/v1/alerts": {"get": _operation("List alert instances; why=unmatched|test_alert, firing=true")},
        "/v1/deliveries": {"get": _operation("List deliveries; state=not_understood|failed")},
        "/v1/sources": {"get": _operation("Configured senders that call us")},
        "/v1/incidents": {"get": _operation("List incidents; all=true, mode=armed|shadow")},
        "/v1/incidents/{id}": {"parameters": [_INCIDENT], "get": _operation("One incident with its alerts")},
        "/v1/incidents/{id}/timeline": {"parameters": [_INCIDENT], "get": _operation("The audit trail")},
        "/v1/incidents/{id}/evidence": {"parameters": [_INCIDENT], "get": _operation("Evidence; item=NAME for its bytes")},
        "/v1/incidents/{id}/report": {"parameters": [_INCIDENT], "get": _operation("The report, Markdown")},
        "/v1/incidents/{id}/undo": {"parameters": [_INCIDENT], "post": _operation("Give back what it holds")},
        "/v1/incidents/{id}/{what}": {
            "parameters": [
                _INCIDENT,
                {
                    "name": "what",
                    "in": "path",
                    "required": True,
                    "schema": {"enum": ["acknowledge", "approve", "reject", "pause", "resume", "close", "note"]},
                },
            ],
            "post": _operation("Say something to an incident", ok="202", body=True),
        },
        "/v1/explain": {"post": _operation("What a payload would lead to, and why", body=True)},
        "/v1/rules": {"get": _operation("Rules in force")},
        "/v1/mode": {"get": _operation("Switches"), "put": _operation("The kill switch: off, shadow or armed", body=True)},
        "/v1/changes": {"get": _operation("Changes not given back")},
        "/v1/doctor": {"get": _operation("Examine the installation: store, clusters, permissions, channels, senders")},
        "/v1/doctor/page": {"post": _operation("Send a test page through a channel", body=True)},
        "/openapi.json": {"get": _operation("This")},
        "/healthz": {"get": _operation("The process lives")},
        "/readyz": {"get": _operation("Rules are loaded")},
        "/metrics": {"get": _operation("Prometheus metrics")},
    },
    "components": {
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}, "basic": {"type": "http", "scheme": "basic"}},
        "responses": {
            "Refusal": {
                "description": "What was wrong and what to do",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "error": {
                                    "type": "object",
                                    "properties": {
                                        "status": {"type": "integer"},
                                        "what": {"type": "string"},
                                        "do": {"type": "string"},
                                    },
                                }
                            },
                        }
                    }
                },
            }
        },
    },
}
