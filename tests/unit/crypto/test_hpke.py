"""The key schedule; the vectors stand in tests/vectors/test_hpke.py."""

from __future__ import annotations

import pytest

from counterseal.crypto.hpke import P256_MLKEM768, combine, schedule


def test_every_input_of_the_combiner_counts() -> None:
    parts = [b"a" * 32, b"b" * 32, b"c" * 65, b"d" * 65]
    secrets = {combine(*parts)}
    for place, part in enumerate(parts):
        changed = [*parts[:place], part[:-1] + b"x", *parts[place + 1 :]]
        secrets.add(combine(*changed))
    assert len(secrets) == 5


def test_every_input_of_the_schedule_counts() -> None:
    made = {
        schedule(bytes(32), b"", kem=P256_MLKEM768, kdf=3, aead=2),
        schedule(b"\1" * 32, b"", kem=P256_MLKEM768, kdf=3, aead=2),
        schedule(bytes(32), b"i", kem=P256_MLKEM768, kdf=3, aead=2),
        schedule(bytes(32), b"", kem=0x647A, kdf=3, aead=2),
        schedule(bytes(32), b"", kem=P256_MLKEM768, kdf=1, aead=2),
    }
    assert len(made) == 5
    assert {(len(key), len(nonce)) for key, nonce in made} == {(32, 12)}


@pytest.mark.parametrize("unknown", [{"kdf": 9}, {"aead": 9}])
def test_an_unknown_algorithm_is_never_guessed(unknown: dict[str, int]) -> None:
    with pytest.raises(KeyError):
        schedule(bytes(32), b"", **({"kem": 1, "kdf": 1, "aead": 1} | unknown))
