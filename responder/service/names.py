"""Makes the names of incidents: short, lower case, sortable by time."""

from __future__ import annotations

import secrets
from datetime import datetime

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def incident_id(now: datetime) -> str:
    """Return such as ``inc-06bq3k9x2p-7f3a``: milliseconds in Crockford's base 32, then four random hex digits."""
    number = int(now.timestamp() * 1000)
    digits = []
    while number:
        number, rest = divmod(number, 32)
        digits.append(_DIGITS[rest])
    return f"inc-{''.join(reversed(digits)).rjust(9, '0')}-{secrets.token_hex(2)}"
