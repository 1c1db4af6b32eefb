"""The next release, as it may be: made from this tree, since there is no history in a clone. It changes what a release may change.

What an older release stored is kept beside the tests of the codec: ``tests/unit/stores/states``.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from responder.stores.sql.migrate import newest

BESIDE = "next_release"
ROOT = Path(__file__).resolve().parents[1]


def next_release(folder: Path) -> Path:
    """Return a source tree as the next release may be: a raised state version, a column and a table more, and a migration for them."""
    shutil.copytree(ROOT / "responder", folder / "responder", ignore=shutil.ignore_patterns("__pycache__"))

    def change(file: str, *pairs: tuple[str, str]) -> None:
        path = folder / "responder" / file
        text = path.read_text()
        for before, after in pairs:
            assert text.count(before) == 1, (file, before)
            text = text.replace(before, after)
        path.write_text(text)

    change("__init__.py", ('__version__ = "0.1.0"', '__version__ = "0.2.0"'))
    change(
        "model/incident.py",
        ("STATE_VERSION = 1\n", "STATE_VERSION = 2\n"),
        ("    id: str\n    key: str\n", "    id: str\n    key: str\n    release: str\n"),
    )
    change(
        "service/router.py",
        ("            key=key_of(mode, target),\n", '            key=key_of(mode, target),\n            release="new",\n'),
    )
    change(
        "stores/sql/codec.py",
        (
            "UP_CASTERS: Mapping[int, UpCaster] = {}\n",
            'UP_CASTERS: Mapping[int, UpCaster] = {1: lambda raw: {**raw, "release": "lifted"}}\n',
        ),
        ("WRITTEN_VERSION = STATE_VERSION\n", "WRITTEN_VERSION = 1\n"),
        (
            "DOWN_CASTERS: Mapping[int, UpCaster] = {}\n",
            'DOWN_CASTERS: Mapping[int, UpCaster] = {2: lambda raw: {name: value for name, value in raw.items() if name != "release"}}\n',
        ),
    )
    change(
        "stores/sql/tables.py",
        (
            '    Column("sender", Words, nullable=False, server_default=""),\n',
            '    Column("sender", Words, nullable=False, server_default=""),\n    Column("tenant", Words),\n',
        ),
    )
    head = newest()
    number = f"{int(head) + 1:04}"
    (folder / f"responder/stores/sql/migrations/versions/{number}_next.py").write_text(
        f"""import sqlalchemy as sa
from alembic import op

revision = "{number}"
down_revision = "{head}"


def upgrade():
    op.add_column("deliveries", sa.Column("tenant", sa.Text(), nullable=True))
    op.create_table("tenants", sa.Column("name", sa.Text(), primary_key=True))
"""
    )
    return folder


class Release:
    """A release loaded beside this one: its modules have the same names, and exist where it is ``active`` only.

    Two in one process, so that both can be on one virtual clock. Each module keeps the others that it imported.
    """

    def __init__(self, folder: Path) -> None:
        """Take the tree's folder; nothing is imported yet."""
        self._folder = folder
        self._modules: Mapping[str, ModuleType] = {}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let imports find this release's modules, and only them, until the block ends."""
        ours = {name: module for name, module in sys.modules.items() if _swapped(name)}
        for name in ours:
            del sys.modules[name]
        sys.modules.update(self._modules)
        sys.path.insert(0, str(self._folder))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(str(self._folder))
            self._modules = {name: module for name, module in sys.modules.items() if _swapped(name)}
            for name, module in self._modules.items():
                del sys.modules[name]
                self._rename(module, f"{BESIDE}.{name}")
            sys.modules.update(ours)

    def _rename(self, module: ModuleType, name: str) -> None:
        """Give a module and its classes a name of their own: annotations are looked up by it when a class is first decoded."""
        for one in vars(module).values():
            if isinstance(one, type) and one.__module__ == module.__name__:
                one.__module__ = name
        module.__name__ = name
        sys.modules[name] = module


def _swapped(name: str) -> bool:
    return name.partition(".")[0] in {"responder", "tests"}
