"""CEL's engine, imported without the command line that its package brings along.

The decision a reader would question: the package imports its own command line (prompt_toolkit, pygments: 12 MiB and a tenth of a second at every
start of ours) only to offer it. An empty module stands in its place while the engine is imported, and is gone afterwards.
"""

from __future__ import annotations

import sys
from types import ModuleType

_COMMAND_LINE = "cel.cli"

_aside = _COMMAND_LINE not in sys.modules
if _aside:
    sys.modules[_COMMAND_LINE] = ModuleType(_COMMAND_LINE)

import cel  # noqa: E402 - only now

if _aside:
    del sys.modules[_COMMAND_LINE]
    vars(cel).pop("cli", None)

__all__ = ["cel"]
