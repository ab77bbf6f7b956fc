import threading

import pytest

from counterseal.errors import BadCiphertext, CharterDenied
from counterseal.gateway.sqlite_state import SqliteState
from counterseal.gateway.state import MemoryState
from counterseal.gateway.vault import Vault

ONE, TWO = "01" * 16, "02" * 16
SECRET = b"what a charter's partner did"


@pytest.fixture
def state():
    return MemoryState()


@pytest.fixture
def vault(cast, state):
    return vault_of(cast.lab, state)


def vault_of(identity, state):
    return Vault(state, protect=identity.protect, unprotect=identity.unprotect)


def put(vault, charter, name, plain):
    vault.change(charter, name, lambda _: (plain, None))


def raw(state, charter):
    return dict(state.items(charter, ""))


def test_what_is_put_in_comes_out_for_every_process_of_this_identity(cast, state, vault):
    put(vault, ONE, "quotas", SECRET)
    put(vault, "", "sessions", b"key")
    other = vault_of(cast.lab, state)
    assert other.get(ONE, "quotas") == SECRET
    assert other.change(ONE, "quotas", lambda old: (old + b"!", old)) == SECRET
    assert vault.get(ONE, "quotas") == SECRET + b"!"
    assert vault.get("", "sessions") == b"key"
    assert vault.get(ONE, "other") is None
    assert vault.get(TWO, "quotas") is None
    assert vault.items(ONE, "q") == [("quotas", SECRET + b"!")]
    assert vault.items(TWO, "") == []
    vault.change(ONE, "quotas", lambda _: (None, None))
    assert vault.get(ONE, "quotas") is None


def test_no_stored_byte_says_anything_and_none_repeats(state, vault):
    put(vault, ONE, "a", SECRET)
    before = raw(state, ONE)
    put(vault, ONE, "a", SECRET)
    after = raw(state, ONE)
    assert before["key"] == after["key"]
    assert before["cell/a"][:16] != after["cell/a"][:16]
    assert before["cell/a"][16:] != after["cell/a"][16:]
    assert not any(SECRET in blob for blob in (*before.values(), *after.values()))


def test_another_identity_reads_nothing(cast, state, vault):
    put(vault, ONE, "a", SECRET)
    with pytest.raises(BadCiphertext):
        vault_of(cast.clinic, state).get(ONE, "a")


MOVES = {
    "to another name": [(ONE, "cell/a", ONE, "cell/b")],
    "to another charter": [(ONE, "cell/a", TWO, "cell/a")],
    "with its key to another charter": [
        (ONE, "cell/a", TWO, "cell/a"),
        (ONE, "key", TWO, "key"),
    ],
    "changed": [(ONE, "cell/b", ONE, "cell/a")],
}


@pytest.mark.parametrize("where", MOVES)
def test_a_cell_moved_does_not_open(cast, state, vault, where):
    put(vault, ONE, "a", SECRET)
    put(vault, ONE, "b", b"other")
    put(vault, TWO, "a", b"theirs")
    for charter, name, to_charter, to_name in MOVES[where]:
        blob = state.get(charter, name)
        state.change(to_charter, to_name, lambda _, blob=blob: (blob, None))
    _, _, charter, name = MOVES[where][0]
    for one in (vault, vault_of(cast.lab, state)):
        with pytest.raises(BadCiphertext):
            one.get(charter, name.removeprefix("cell/"))
        with pytest.raises(BadCiphertext):
            put(one, charter, name.removeprefix("cell/"), b"over it")


def test_a_cell_cut_short_does_not_open(state, vault):
    put(vault, ONE, "a", SECRET)
    for length in (0, 15, 16, 20):
        state.change(ONE, "cell/a", lambda old, length=length: (old[:length], None))
        with pytest.raises(BadCiphertext):
            vault.get(ONE, "a")


def test_what_is_shredded_is_gone_and_never_begun_anew(cast, tmp_path):
    state = SqliteState(tmp_path / "state.db")
    vault, other = vault_of(cast.lab, state), vault_of(cast.lab, state)
    put(vault, ONE, "a", SECRET)
    put(vault, TWO, "a", SECRET)
    assert other.get(ONE, "a") == SECRET
    gone = raw(state, ONE).values()
    vault.shred(ONE)
    assert raw(state, ONE) == {}
    for path in tmp_path.iterdir():
        assert not any(blob in path.read_bytes() for blob in gone)
    for one in (vault, other, vault_of(cast.lab, state)):
        assert one.is_shredded(ONE)
        assert one.get(ONE, "a") is None
        with pytest.raises(CharterDenied, match="destroyed"):
            put(one, ONE, "a", b"anew")
    assert raw(state, ONE) == {}
    assert vault.get(TWO, "a") == SECRET
    vault.shred(ONE)  # again: nothing happens
    state.close()


def test_a_shredding_that_was_killed_half_way_is_refused_already_and_can_be_done_again(
    cast, state, vault, monkeypatch
):
    put(vault, ONE, "a", SECRET)

    def killed(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(state, "delete_all", killed)
        with pytest.raises(KeyboardInterrupt):
            vault.shred(ONE)
    with pytest.raises(CharterDenied):
        put(vault_of(cast.lab, state), ONE, "a", b"more")
    vault.shred(ONE)
    assert raw(state, ONE) == {}


@pytest.mark.parametrize("step", ["key", "cell/a"])
def test_shredded_between_two_steps_of_a_change(cast, state, vault, monkeypatch, step):
    if step != "key":
        put(vault, ONE, "a", SECRET)
    change = state.change

    def late(charter, name, what):
        if name == step:
            monkeypatch.undo()
            vault_of(cast.lab, state).shred(ONE)
        return change(charter, name, what)

    monkeypatch.setattr(state, "change", late)
    with pytest.raises(CharterDenied):
        put(vault, ONE, "a", b"more")
    assert raw(state, ONE) == {}


def test_deleted_without_shredding_it_may_begin_anew(vault):
    put(vault, ONE, "a", SECRET)
    vault.delete_all(ONE)
    assert vault.get(ONE, "a") is None
    put(vault, ONE, "a", b"anew")
    assert vault.get(ONE, "a") == b"anew"


def test_begun_anew_by_another_process_it_has_another_key(cast, state, vault):
    other = vault_of(cast.lab, state)
    put(vault, ONE, "a", SECRET)
    before = raw(state, ONE)["key"]
    other.delete_all(ONE)
    put(other, ONE, "a", b"anew")
    assert raw(state, ONE)["key"] != before
    assert vault.get(ONE, "a") == b"anew"


def test_what_belongs_to_no_charter_is_not_shredded(vault):
    for wrong in (vault.shred, vault.delete_all):
        with pytest.raises(ValueError):
            wrong("")


def test_two_who_make_the_key_at_once_agree_on_one(cast, tmp_path):
    meet = threading.Barrier(4)

    def protect(secret, *, label):
        meet.wait()  # all four saw that there is none
        return cast.lab.protect(secret, label=label)

    def begin(number):
        state = SqliteState(tmp_path / "state.db")
        vault = Vault(state, protect=protect, unprotect=cast.lab.unprotect)
        put(vault, ONE, f"cell {number}", SECRET)
        state.close()

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    state = SqliteState(tmp_path / "state.db")
    found = vault_of(cast.lab, state).items(ONE, "")
    assert found == [(f"cell {number}", SECRET) for number in range(4)]
    state.close()


def test_nothing_secret_is_in_its_text(vault):
    put(vault, ONE, "a", SECRET)
    key = vault._keys[ONE][1]
    assert repr(key) not in repr(vault)
    assert repr(vault) == "<Vault>"
