"""The command line: every command has ``--json``; exit codes 0 ok, 1 found a problem, 2 usage.

Commands that look at or steer a running service speak to its API (``RESPONDER_URL``, ``RESPONDER_TOKEN``); ``serve``, ``check``, ``test``,
``schema`` and ``demo`` work by themselves.

The decision a reader would question: ``serve`` with its plain arguments goes its own way and loads none of the other commands.
"""

from __future__ import annotations

import gc
import importlib
import sys

from responder.model.errors import ResponderError


def main() -> None:
    """Run the command line."""
    gc.disable()  # what is imported stays: looking through it again and again only takes time; ``serving`` and the others go on with it
    serving = importlib.import_module("responder.cli.serving")
    config = serving.asked(sys.argv[1:])
    if config is None:
        commands = importlib.import_module("responder.cli.main")
        gc.enable()
        commands.main()
        return
    try:
        serving.run(config)
    except ResponderError as error:
        sys.stderr.write(f"responder: {error}\n")
        sys.exit(1)


__all__ = ["main"]
