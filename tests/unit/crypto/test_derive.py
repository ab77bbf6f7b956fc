"""One key, one purpose, one label."""

from __future__ import annotations

from itertools import combinations

import pytest

from counterseal.crypto.derive import KEY_BYTES, Deriver, bind, derive, derive_from_shares


def test_bind_is_injective_where_concatenation_is_not() -> None:
    made = [
        bind("a"),
        bind("a", b""),
        bind("a", b"", b""),
        bind("a", b"bc"),
        bind("a", b"b", b"c"),
        bind("a", b"", b"bc"),
        bind("ab", b"c"),
        bind("a", b"\0\0\0\1b"),
    ]
    for left, right in combinations(made, 2):
        assert left != right


def test_a_label_is_ascii() -> None:
    with pytest.raises(UnicodeEncodeError):
        bind("größe")


def test_every_input_changes_the_key() -> None:
    keys = {
        derive(bytes(32), "label"),
        derive(b"\1" * 32, "label"),
        derive(bytes(32), "other"),
        derive(bytes(32), "label", b"part"),
        derive(bytes(32), "label", b"pa", b"rt"),
    }
    assert len(keys) == 5
    assert {len(key) for key in keys} == {KEY_BYTES}


def test_shares_are_bound_to_salt_label_and_parts() -> None:
    keys = {
        derive_from_shares(b"s" * 64, "l", b"p", salt=b"1"),
        derive_from_shares(b"t" * 64, "l", b"p", salt=b"1"),
        derive_from_shares(b"s" * 64, "m", b"p", salt=b"1"),
        derive_from_shares(b"s" * 64, "l", b"q", salt=b"1"),
        derive_from_shares(b"s" * 64, "l", b"p", salt=b"2"),
    }
    assert len(keys) == 5


@pytest.mark.parametrize("parts", [(), (b"",), (b"one", b"two"), (bytes(1000),)])
def test_a_deriver_gives_what_derive_gives(parts):
    key = bytes(range(32))
    deriver = Deriver(key)
    for label in ("ledger record", "ledger commitment"):
        assert deriver.derive(label, *parts) == derive(key, label, *parts)
