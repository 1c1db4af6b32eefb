"""Where everything that must survive a crash is kept. Never here: judgement; the core decides, the store keeps."""

from responder.stores.sql.administration import Administration
from responder.stores.sql.store import SqlStore, open_memory, open_postgres, open_sqlite

__all__ = ["Administration", "SqlStore", "open_memory", "open_postgres", "open_sqlite"]
