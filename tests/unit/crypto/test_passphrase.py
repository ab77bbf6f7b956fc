"""From a passphrase to a committed key."""

from __future__ import annotations

import pytest

from counterseal.crypto.passphrase import Cost, unwrap, wrap, wrapped_bytes
from counterseal.errors import BadCiphertext, FormatError

CHEAP = Cost(memory_kib=19 * 1024, passes=2, lanes=1)


def test_round_trip() -> None:
    wrapped = wrap(b"secret", b"pass", context=b"c", cost=CHEAP)
    assert len(wrapped) == wrapped_bytes(6)
    assert unwrap(wrapped, b"pass", context=b"c", cost=CHEAP) == b"secret"


@pytest.mark.parametrize(
    ("passphrase", "context"), [(b"Pass", b"c"), (b"pass ", b"c"), (b"pass", b"d")]
)
def test_another_passphrase_or_context_is_refused(passphrase: bytes, context: bytes) -> None:
    wrapped = wrap(b"secret", b"pass", context=b"c", cost=CHEAP)
    with pytest.raises(BadCiphertext):
        unwrap(wrapped, passphrase, context=context, cost=CHEAP)


def test_another_cost_is_refused() -> None:
    wrapped = wrap(b"secret", b"pass", context=b"c", cost=CHEAP)
    with pytest.raises(BadCiphertext):
        unwrap(wrapped, b"pass", context=b"c", cost=Cost(19 * 1024, 3, 1))


def test_a_changed_byte_in_each_part_is_refused() -> None:
    wrapped = wrap(b"secret", b"pass", context=b"c", cost=CHEAP)
    for place in (0, 16, 48, len(wrapped) - 1):  # salt, commitment, ciphertext, tag
        changed = bytearray(wrapped)
        changed[place] ^= 1
        with pytest.raises(BadCiphertext):
            unwrap(bytes(changed), b"pass", context=b"c", cost=CHEAP)


@pytest.mark.parametrize("length", [0, 15, 16, 48, 63])
def test_a_short_value_is_refused_before_any_work(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("counterseal.crypto.passphrase.Argon2id", None)
    with pytest.raises(FormatError):
        unwrap(bytes(length), b"pass", context=b"", cost=CHEAP)


@pytest.mark.parametrize("passphrase", [b"", b"x" * 4097])
def test_an_empty_or_endless_passphrase_is_refused(passphrase: bytes) -> None:
    with pytest.raises(FormatError):
        wrap(b"s", passphrase, context=b"", cost=CHEAP)
    with pytest.raises(FormatError):
        unwrap(bytes(80), passphrase, context=b"", cost=CHEAP)


@pytest.mark.parametrize(
    ("memory_kib", "passes", "lanes"),
    [
        (19 * 1024, 2, 1),
        (38 * 1024, 1, 1),
        (64 * 1024, 3, 4),
        (1024 * 1024, 16, 16),
    ],
)
def test_costs_inside_the_bounds(memory_kib: int, passes: int, lanes: int) -> None:
    Cost(memory_kib, passes, lanes)


@pytest.mark.parametrize(
    ("memory_kib", "passes", "lanes"),
    [
        (19 * 1024 - 1, 2, 1),  # OWASP's least memory
        (19 * 1024, 1, 1),  # too little work in total
        (38 * 1024 - 1, 1, 1),
        (1024 * 1024 + 1, 3, 4),
        (2**32, 3, 4),
        (64 * 1024, 0, 4),
        (64 * 1024, 17, 4),
        (64 * 1024, 3, 0),
        (64 * 1024, 3, 17),
        (0, 0, 0),
        (-1, -1, -1),
    ],
)
def test_costs_outside_the_bounds_are_refused(memory_kib: int, passes: int, lanes: int) -> None:
    with pytest.raises(FormatError, match="cost"):
        Cost(memory_kib, passes, lanes)


def test_the_default_cost_is_the_second_choice_of_rfc_9106() -> None:
    assert Cost() == Cost(memory_kib=65536, passes=3, lanes=4)
