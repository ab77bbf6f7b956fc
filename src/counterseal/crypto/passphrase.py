"""From a passphrase to a committed key: Argon2id (RFC 9106), bounded on both sides (SPEC 3.5).

The bound below stops a file from asking for so little that guessing is cheap; the bound
above stops it from asking for all memory. The commitment is checked before the key is
used: without it one ciphertext can be made to open under thousands of passphrases at once
and an answer "opened or not" tests them all (partitioning oracle, Len et al. 2021).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from counterseal.crypto.derive import derive
from counterseal.crypto.digest import equal
from counterseal.errors import BadCiphertext, FormatError

__all__ = ["SALT_BYTES", "Cost", "unwrap", "wrap", "wrapped_bytes"]

SALT_BYTES: Final = 16
COMMITMENT_BYTES: Final = 32
TAG_BYTES: Final = 16
MAX_PASSPHRASE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Cost:
    """Argon2id parameters. The default is the second choice of RFC 9106 section 4."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        if not (
            19 * 1024 <= self.memory_kib <= 1024 * 1024
            and 1 <= self.passes <= 16
            and 1 <= self.lanes <= 16
            and self.memory_kib * self.passes >= 2 * 19 * 1024
        ):
            raise FormatError(
                "the Argon2id cost is outside the accepted range",
                hint="19 MiB to 1 GiB of memory, 1 to 16 passes, 1 to 16 lanes (SPEC 3.5)",
            )


def wrap(secret: bytes, passphrase: bytes, *, context: bytes, cost: Cost) -> bytes:
    """Return salt | commitment | ciphertext; opens only with the same `context`."""
    salt = os.urandom(SALT_BYTES)
    key, commitment = _keys(passphrase, salt, context, cost)
    # Fixed nonce: `key` comes from a fresh salt and encrypts exactly this one secret.
    return salt + commitment + AESGCM(key).encrypt(bytes(12), secret, None)


def unwrap(wrapped: bytes, passphrase: bytes, *, context: bytes, cost: Cost) -> bytes:
    """Raise BadCiphertext for a wrong passphrase, a changed byte or another context."""
    salt, rest = wrapped[:SALT_BYTES], wrapped[SALT_BYTES:]
    commitment, ciphertext = rest[:COMMITMENT_BYTES], rest[COMMITMENT_BYTES:]
    if len(salt) != SALT_BYTES or len(ciphertext) < TAG_BYTES:
        raise FormatError("a passphrase-protected value is too short")
    key, expected = _keys(passphrase, salt, context, cost)
    try:
        if equal(commitment, expected):
            return AESGCM(key).decrypt(bytes(12), ciphertext, None)
    except InvalidTag:
        pass
    raise BadCiphertext("wrong passphrase, or the protected value was changed")


def wrapped_bytes(secret: int) -> int:
    """Length of what `wrap` makes of `secret` bytes."""
    return SALT_BYTES + COMMITMENT_BYTES + secret + TAG_BYTES


def _keys(passphrase: bytes, salt: bytes, context: bytes, cost: Cost) -> tuple[bytes, bytes]:
    if not passphrase or len(passphrase) > MAX_PASSPHRASE_BYTES:
        raise FormatError("a passphrase has 1 to 4096 bytes")
    stretched = Argon2id(
        salt=salt,
        length=32,
        iterations=cost.passes,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    ).derive(passphrase)
    return derive(stretched, "passphrase key", context), derive(
        stretched, "passphrase commitment", context, length=COMMITMENT_BYTES
    )
