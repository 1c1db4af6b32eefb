"""Makes the names of incidents: short, lower case, sortable by time."""

from __future__ import annotations

import secrets
from datetime import datetime

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def incident_id(now: datetime) -> str:
    """Return such as ``inc-06bq3k9x2p-7f3a41c9``: milliseconds in Crockford's base 32, then eight random hex digits.

    Eight and not four: a storm opens hundreds within one millisecond, and two of one name would stop their delivery.
    """
    number = int(now.timestamp() * 1000)
    digits = []
    while number:
        number, rest = divmod(number, 32)
        digits.append(_DIGITS[rest])
    return f"inc-{''.join(reversed(digits)).rjust(9, '0')}-{secrets.token_hex(4)}"
