"""Recovery keys: signing keys kept offline, of which `threshold` replace a lost or stolen key.

They do nothing else: they seal nothing, open nothing and sign no package. So they can lie in
a safe, each encrypted under a passphrase of its own, and be brought out once in years.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from counterseal.crypto.signing import SigningKey, SigningSuite
from counterseal.errors import FormatError
from counterseal.trust import atomic
from counterseal.trust.card import Recovery, SigningPublic
from counterseal.trust.keystores import file as keystore_file
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import PrivateMessage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["NO_RECOVERY", "load", "public_part", "save"]

NO_RECOVERY = Recovery(threshold=0, keys=())


class _RecoveryKey(PrivateMessage, frozen=True):
    kind: Literal["recovery-key"]
    format: Literal[1]
    suite: SigningSuite
    classical: bytes
    pq: bytes


def public_part(keys: Sequence[SigningKey], *, threshold: int) -> Recovery:
    """What the card says about them. All different: one key listed twice would count twice."""
    if not 1 <= threshold <= len(keys) <= limits.RECOVERY_KEYS:
        raise ValueError(f"a threshold of {threshold} does not fit {len(keys)} recovery keys")
    return Recovery(threshold=threshold, keys=tuple(SigningPublic.of(key.public) for key in keys))


def save(key: SigningKey, path: Path, passphrase: bytes) -> None:
    """Write one recovery key, encrypted; an existing file is never replaced."""
    classical, pq = key.seeds()
    secret = canonical.encode(
        _RecoveryKey(
            kind="recovery-key", format=1, suite=key.public.suite, classical=classical, pq=pq
        )
    )
    data = keystore_file.encrypt(secret, passphrase, kind="recovery-key")
    atomic.write_whole(path, data, mode=0o600, replace=False)


def load(path: Path, passphrase: bytes) -> SigningKey:
    data = atomic.read_bounded(path, limits.KEYSTORE_BYTES, what="recovery key")
    secret = keystore_file.decrypt(data, passphrase, kind="recovery-key")
    key = canonical.decode(secret, _RecoveryKey, limit=limits.KEYSTORE_BYTES, what="recovery key")
    try:
        return SigningKey(key.suite, key.classical, key.pq)
    except ValueError:
        raise FormatError("the recovery key is not a private key") from None
