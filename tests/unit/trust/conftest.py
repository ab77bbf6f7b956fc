"""Keys are slow to make: one set for all tests that do not change them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from counterseal.crypto.passphrase import Cost
from counterseal.crypto.signing import SigningKey
from counterseal.trust import recovery, succession
from counterseal.trust.keystores.keyring import Generation

if TYPE_CHECKING:
    from counterseal.trust.history import History

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def cheap() -> Cost:
    """The least that is accepted: about 30 ms."""
    return Cost(memory_kib=19 * 1024, passes=2, lanes=1)


@pytest.fixture(scope="session")
def generations() -> tuple[Generation, ...]:
    return tuple(Generation.create(hardware=n == 2) for n in range(4))


@pytest.fixture(scope="session")
def recovery_keys() -> tuple[SigningKey, ...]:
    return tuple(SigningKey.generate() for _ in range(3))


@pytest.fixture(scope="session")
def first(generations: tuple[Generation, ...], recovery_keys: tuple[SigningKey, ...]) -> History:
    """A first card with two of three recovery keys."""
    public = recovery.public_part(recovery_keys, threshold=2)
    return succession.first("lab", generations[0], recovery=public, at=NOW)[1]
