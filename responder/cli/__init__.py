"""The command line: every command has ``--json``; exit codes 0 ok, 1 found a problem, 2 usage.

Commands that look at or steer a running service speak to its API (``RESPONDER_URL``, ``RESPONDER_TOKEN``); ``serve``, ``check``, ``test``,
``schema`` and ``demo`` work by themselves.
"""

from responder.cli.main import app, main

__all__ = ["app", "main"]
