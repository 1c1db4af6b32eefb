"""The library's reading of kubeconfigs and service accounts, without its generated client.

Never here: talking to a cluster (``client``).

The decision a reader would question: ``kubernetes_asyncio.config`` needs one small class of the generated client, and importing that client loads
more than 700 model classes, 37 MiB and a quarter of a second at every start, of which we use none. So its two packages are entered without
running their ``__init__``; afterwards they are forgotten, and whoever imports the library by itself gets all of it.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_LIBRARY = "kubernetes_asyncio"
_CLIENT = f"{_LIBRARY}.client"


def _entered(name: str) -> ModuleType:
    """Return a package that was found but not run, so that what is in it can be imported."""
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(name, name=name)
    package = sys.modules[name] = module_from_spec(spec)
    return package


def _read() -> tuple[Any, Any, Any]:
    if _LIBRARY in sys.modules:
        return _parts()
    try:
        _entered(_LIBRARY)
        client = _entered(_CLIENT)
        client.__dict__["Configuration"] = importlib.import_module(f"{_CLIENT}.configuration").Configuration
        client.__dict__["ApiClient"] = None  # named by the library's helpers that make a client; none is made here
        return _parts()
    finally:
        sys.modules.pop(_LIBRARY, None)
        sys.modules.pop(_CLIENT, None)


def _parts() -> tuple[Any, Any, Any]:
    config = importlib.import_module(f"{_LIBRARY}.config")
    configuration = importlib.import_module(f"{_CLIENT}.configuration")
    return config, configuration.Configuration, config.ConfigException


kube_config, Configuration, ConfigException = _read()

__all__ = ["ConfigException", "Configuration", "kube_config"]
