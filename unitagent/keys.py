"""The keys that are made of the Unit's secret, one for each use.

The invariant: the secret itself leaves this process on no wire and in no file. A key that somebody learns, as
a sniffer learns the embedded store's password, tells neither the secret nor another key.
"""

from __future__ import annotations

import hashlib
import hmac

LEAST_SECRET = 16  # bytes; fewer are found by trying, from one signed answer


def store_password(secret: str) -> str:
    """Give the password of the embedded store."""
    return _derive(secret, b"store")


def signing_key(secret: str) -> str:
    """Give the key that peers sign with."""
    return _derive(secret, b"sign")


def _derive(secret: str, use: bytes) -> str:
    return hmac.new(secret.encode(errors="surrogateescape"), use, hashlib.sha256).hexdigest()
