import pytest

from counterseal.crypto.record import OVERHEAD_BYTES, Opener, Sealer, open_once, seal_once
from counterseal.errors import BadCiphertext

SECRET = bytes(range(32))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1 << 16, 1 << 20])
def test_round_trip_in_order(size):
    sealer, opener = Sealer(SECRET), Opener(SECRET)
    for kind in (1, 2, 255):
        payload = bytes([kind]) * size
        frame = sealer.seal(kind, payload)
        assert len(frame) == size + OVERHEAD_BYTES
        found, view = opener.open(frame)
        assert (found, bytes(view)) == (kind, payload)
    assert sealer.used == opener.used == 3 * (size + OVERHEAD_BYTES)


def test_a_smaller_frame_after_a_larger_one_shows_nothing_of_it():
    sealer, opener = Sealer(SECRET), Opener(SECRET)
    opener.open(sealer.seal(1, b"x" * 1000))
    _, view = opener.open(sealer.seal(1, b"y"))
    assert bytes(view) == b"y"


def test_equal_payloads_do_not_look_alike():
    sealer = Sealer(SECRET)
    assert len({sealer.seal(1, b"same") for _ in range(100)}) == 100


def test_the_ratchet_turns_both_ends_and_not_back():
    sealer, opener = Sealer(SECRET), Opener(SECRET)
    sealer.seal(1, b"before")
    sealer.ratchet()
    opener.ratchet()
    assert sealer.used == 0
    assert bytes(opener.open(sealer.seal(1, b"after"))[1]) == b"after"
    old = Opener(SECRET)
    with pytest.raises(BadCiphertext):
        old.open(sealer.seal(1, b"after"))
    assert SECRET not in [getattr(opener, name, b"") for name in ("_secret", "_buffer")]


def test_what_is_too_short_or_changed_is_refused():
    frame = Sealer(SECRET).seal(1, b"payload")
    for bad in (b"", frame[: OVERHEAD_BYTES - 1], frame[:-1], frame + b"\0", bytes(len(frame))):
        with pytest.raises(BadCiphertext):
            Opener(SECRET).open(bad)


def test_forgotten_keys_do_nothing():
    sealer, opener = Sealer(SECRET), Opener(SECRET)
    frame = sealer.seal(1, b"")
    sealer.forget()
    opener.forget()
    with pytest.raises(RuntimeError):
        sealer.seal(1, b"")
    with pytest.raises(RuntimeError):
        opener.open(frame)


def test_secrets_have_one_length_and_no_repr():
    with pytest.raises(ValueError, match="32"):
        Sealer(bytes(31))
    assert repr(Sealer(SECRET)) == "<Sealer>"
    assert repr(Opener(SECRET)) == "<Opener>"


def test_once():
    assert open_once(SECRET, seal_once(SECRET, b"plain")) == b"plain"
    with pytest.raises(BadCiphertext):
        open_once(bytes(32), seal_once(SECRET, b"plain"))
