"""Keys derived from the Unit's secrets, one for each use of each secret, and the HMACs made with them.

A Unit may have several secrets while one replaces another. An agent signs with all of its secrets and
accepts a signature by any of them, so the order in which ranks learn of a new one does not matter.

The invariants: the secret itself never leaves this process. A key that leaks, as the embedded store's
password can be sniffed, reveals neither the secret nor another key. A sealed message begins with its kind,
and each part with its length, so a seal of one message never fits another, however the parts are cut.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


MIN_SECRET_BYTES = 16  # bytes; fewer can be brute-forced from one signed answer
MAX_SECRETS = 3  # a former one, its successor, and the successor of a change that went wrong


class Keyring:
    """All keys of one Unit, as they are now. One ring is shared by all who sign, compare or log in.

    Attributes:
        signing: what this Unit signs with; nothing where it has no secret.
        passwords: that the embedded store takes, in the order in which a client tries them.
        edition: another one after each change.

    """

    def __init__(self, *secrets: str) -> None:
        self.signing: tuple[str, ...] = ()
        self.passwords: tuple[str, ...] = ()
        self.edition = 0
        self.replace_secrets(secrets)

    def replace_secrets(self, secrets: Iterable[str]) -> bool:
        """Accept these from now on, and no others; returns whether that is a change."""
        each = tuple(dict.fromkeys(secrets))
        signing = tuple(map(derive_signing_key, each))
        if signing == self.signing:
            return False
        self.signing, self.passwords = signing, tuple(map(derive_store_password, each))
        self.edition += 1
        return True

    def has_any(self, secrets: Iterable[str]) -> bool:
        """Whether one of these is accepted now."""
        return any(derive_signing_key(secret) in self.signing for secret in secrets)

    def __bool__(self) -> bool:
        return bool(self.signing)

    def __len__(self) -> int:
        return len(self.signing)


def derive_store_password(secret: str) -> str:
    """Derive the password of the embedded store."""
    return _derive_key(secret, b"store")


def derive_signing_key(secret: str) -> str:
    """Derive the key that peers sign with."""
    return _derive_key(secret, b"sign")


def _derive_key(secret: str, use: bytes) -> str:
    return hmac.new(secret.encode(errors="surrogateescape"), use, hashlib.sha256).hexdigest()


class SealKind(StrEnum):
    """The kind of a sealed message."""

    ANSWER = "answer"  # of an agent, to a peer's question
    QUESTION = "question"  # of somebody who asks an agent for output
    RECORD = "record"  # of a rank, in the store
    STANDBY = "standby"  # of a spare, in the store
    ENTRY = "entry"  # of a Unit, in the list of all


def compute_seal(secret: str, kind: SealKind, *parts: str | bytes) -> str:
    """Return the HMAC-SHA256 of these parts in hex."""
    raw = [part if isinstance(part, bytes) else part.encode() for part in (kind.value, *parts)]
    message = b"".join(b"%d:%s" % (len(part), part) for part in raw)
    return hmac.digest(secret.encode(), message, "sha256").hex()


def are_seals_equal(mine: str, theirs: str) -> bool:
    """Compare two seals in time that does not depend on where they differ."""
    return hmac.compare_digest(mine.encode(), theirs.encode(errors="replace"))
