"""A gateway on several nodes: its ledger, quotas and epochs on a PostgreSQL server that is real.

The server is stopped and started, connections are cut, processes are killed.
"""

import contextlib
import subprocess
import sys
import threading
import time
import traceback

import charters
import pytest
from ledgers import KEYS, SECONDS, SIGNER, Marks, log_of, some
from postgres import PASSWORD, Cluster, why_no_postgres
from workshop import AT, CHEAP

from counterseal.charter.document import Quota
from counterseal.errors import CountersealError, LedgerBroken
from counterseal.gateway import postgres_state
from counterseal.gateway.postgres_state import PostgresState
from counterseal.gateway.quota import Quotas
from counterseal.gateway.vault import Vault
from counterseal.ledger.entry import Record
from counterseal.ledger.keys import LogKeys
from counterseal.ledger.ledger import Ledger
from counterseal.ledger.log import Log
from counterseal.ledger.postgres import PostgresStore
from counterseal.ledger.stored import Static, first_rows
from counterseal.ledger.verify import verify
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores.file import FileKeystore

ONE = "01" * 16


@pytest.fixture
def cluster():
    """A server of this test alone, that it may stop."""
    reason = why_no_postgres()
    if reason is not None:
        pytest.skip(reason)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def store_of(postgres):
    """Opens a ledger's store as another process would."""
    opened = []

    def store_of(name="scan"):
        opened.append(PostgresStore(postgres, name))
        return opened[-1]

    yield store_of
    for one in opened:
        one.close()


@pytest.fixture
def state_of(postgres):
    opened = []

    def state_of(url=postgres):
        opened.append(PostgresState(url))
        return opened[-1]

    yield state_of
    for one in opened:
        one.close()


def wait_until(is_so, seconds=20):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# The ledger


def test_a_ledger_records_publishes_and_verifies(tmp_path, store_of):
    with contextlib.closing(Home(tmp_path / "home")) as home:
        lab = Identity.create("lab", home=home, passphrase=b"passphrase", at=AT)
        place = home.identity_folder("lab") / "keystore.json"
        FileKeystore(place, cost=CHEAP).save(lab._ring, b"passphrase")
        for turn in range(2):
            with Ledger.open("scan", by=lab, store=store_of(), clock=lambda: AT) as ledger:
                records = [Record(event="call", actor=lab.history.identity) for _ in range(300)]
                assert ledger.record_all(records)[0].index == 300 * turn
        static = Static(store_of())
        keys = LogKeys.verify(static("key.json"), of=lab.history)
        assert verify(static, keys).checkpoint.size == 600


def test_what_is_committed_is_there_in_order_and_of_this_ledger_alone(store_of):
    store = store_of()
    store.commit(new=[("tile/1", b"a")], put=[("tail/2", b"c"), ("tail/1", b"b"), ("tail0", b"")])
    store.commit(put=[("tail/2", b"d\x00")], gone=["tail0", "nothing"])
    other = store_of()
    assert other.get("tile/1") == b"a"
    assert other.get("tail0") is None
    assert other.under("tail/") == [("tail/1", b"b"), ("tail/2", b"d\x00")]
    assert store_of("another").under("t") == []
    store.purge()


def test_what_is_new_must_be_new_and_then_nothing_happens(store_of):
    store = store_of()
    store.commit(put=[("a", b"1"), ("c", b"0")])
    with pytest.raises(LedgerBroken, match="two writers"):
        store.commit(gone=["c"], new=[("b", b"2"), ("a", b"3")], put=[("d", b"4")])
    assert [store.get(path) for path in "abcd"] == [b"1", None, b"0", None]


def test_one_writes_at_a_time(store_of):
    first, second, elsewhere = store_of(), store_of(), store_of("another")
    first.lock()
    first.lock()  # it is already
    elsewhere.lock()
    with pytest.raises(CountersealError, match="somebody else writes") as caught:
        second.lock()
    assert caught.value.hint
    threading.Timer(0.1, first.unlock).start()
    second.lock(wait=20)
    with pytest.raises(CountersealError, match="somebody else writes"):
        first.lock()
    second.close()
    first.lock()  # at once
    first.unlock()
    first.unlock()


def test_a_writer_that_was_cut_off_cannot_write_over_the_next_one(
    store_of, postgres_cluster, postgres
):
    store = store_of()
    store.commit(new=first_rows())
    log = log_of(some(3), store=store)
    postgres_cluster.cut_off(postgres)
    successor = store_of()
    successor.lock()
    with pytest.raises(CountersealError):
        log.append(b"late")
    with pytest.raises(CountersealError):
        store.commit(put=[("tail/0", b"late")])
    successor.unlock()
    assert verify(Static(successor), KEYS, read=False).checkpoint.size == 3


def test_two_nodes_write_one_log_in_turns(store_of, postgres):
    store_of().commit(new=first_rows())
    marks = Marks()
    logs = [Log(store_of(), SIGNER, marks, shared=True) for _ in range(2)]

    def write(log, number):
        for index in range(15):
            log.append(b"%d of node %d" % (index, number))

    threads = [
        threading.Thread(target=write, args=(log, number)) for number, log in enumerate(logs)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    logs[0].publish(time=SECONDS)
    assert verify(Static(store_of()), KEYS, read=False).checkpoint.size == 30
    for log in logs:
        log.close()


def test_one_cut_off_between_its_turns_goes_on_and_within_one_lets_others_write(
    store_of, postgres_cluster, postgres
):
    store, other = store_of(), store_of()
    store.lock()
    store.unlock()
    postgres_cluster.cut_off(postgres)
    store.lock()
    postgres_cluster.cut_off(postgres)
    other.lock()
    store.unlock()  # it is gone already
    other.unlock()
    store.lock()


def test_a_reader_that_was_cut_off_goes_on(store_of, postgres_cluster, postgres):
    store = store_of()
    store.commit(put=[("a", b"1")])
    postgres_cluster.cut_off(postgres)
    assert store.get("a") == b"1"
    postgres_cluster.cut_off(postgres)
    store.commit(put=[("a", b"2")])
    assert store.get("a") == b"2"


def test_a_log_goes_on_after_the_server_lost_its_power(cluster):
    url, marks = cluster.create(), Marks()
    store = PostgresStore(url, "scan")
    store.commit(new=first_rows())
    log = log_of(some(300), store=store, mark=marks)
    cluster.stop()
    with pytest.raises(CountersealError):
        log.append(b"late")
    with contextlib.suppress(CountersealError):
        log.close()
    cluster.start()
    again = PostgresStore(url, "scan")
    log = log_of(some(5, 300), store=again, mark=marks)
    assert verify(Static(again), KEYS, read=False).checkpoint.size == 305
    log.close()


# Cells


def test_one_cut_off_before_a_change_goes_on_and_one_within_it_is_told(
    state_of, postgres_cluster, postgres
):
    state = state_of()
    state.change(ONE, "a", lambda _: (b"1", None))
    postgres_cluster.cut_off(postgres)
    state.change(ONE, "a", lambda old: (old + b"2", None))

    def cut_off(old):
        postgres_cluster.cut_off(postgres)
        return old + b"3", None

    with pytest.raises(CountersealError, match="cannot use the database"):
        state.change(ONE, "a", cut_off)
    assert state.get(ONE, "a") == b"12"


def test_a_state_of_another_version_is_refused(state_of):
    state = state_of()
    state._database.read("UPDATE counterseal_gateway SET version = 2 RETURNING 1")
    with pytest.raises(CountersealError, match="another counterseal"):
        state_of()


def test_several_begin_at_once_on_an_empty_database(postgres):
    code = (
        "import sys; from counterseal.gateway.postgres_state import PostgresState\n"
        "state = PostgresState(sys.argv[1])\n"
        "more = lambda held: (b'%d' % (int(held or b'0') + 1), None)\n"
        f"for _ in range(50): state.change('{ONE}', 'n', more)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, postgres]) for _ in range(4)]
    assert [one.wait() for one in running] == [0] * 4
    state = PostgresState(postgres)
    assert state.get(ONE, "n") == b"200"
    state.close()


# Quotas

COUNT = 1000
CHARTER = charters.a_charter(
    limits={"quotas": (Quota(unit="requests", count=COUNT, period="day"),)}
)
SPEND = f"""
import sys
sys.path.insert(0, sys.argv[2])
from charters import AT, a_charter
from counterseal.charter.document import Quota
from counterseal.gateway.postgres_state import PostgresState
from counterseal.gateway.quota import Quotas
from counterseal.gateway.vault import Vault

state = PostgresState(sys.argv[1])
vault = Vault(state, protect=lambda secret, label: secret, unprotect=lambda held, label: held)
charter = a_charter(limits={{"quotas": (Quota(unit="requests", count={COUNT}, period="day"),)}})
quotas = Quotas(vault, charter, workers=4)
while quotas.reserve({{"requests": 1}}, AT).granted:
    print("granted", flush=True)
quotas.close()
"""


def spend(url):
    support = charters.__file__.rpartition("/")[0]
    return subprocess.Popen(
        [sys.executable, "-c", SPEND, url, support], stdout=subprocess.PIPE, text=True
    )


def test_four_nodes_together_get_exactly_the_count(postgres):
    running = [spend(postgres) for _ in range(4)]
    granted = [one.communicate()[0].count("granted") for one in running]
    assert sum(granted) == COUNT


def test_a_node_that_is_killed_gives_nobody_more(postgres, state_of):
    running = [spend(postgres) for _ in range(4)]
    victim = running[1]
    seen = sum(bool(victim.stdout.readline()) for _ in range(40))
    victim.kill()
    granted = seen + sum(one.communicate()[0].count("granted") for one in running)
    assert COUNT - 2 * 32 <= granted <= COUNT
    vault = Vault(
        state_of(), protect=lambda secret, label: secret, unprotect=lambda held, label: held
    )
    assert not Quotas(vault, CHARTER, workers=4).reserve({"requests": 1}, charters.AT).granted


# Epochs


def test_a_bump_on_one_node_is_seen_on_another(state_of):
    here, there = state_of(), state_of()
    seen = threading.Event()
    watch = there.watch(seen.set)
    assert watch.alive(time.monotonic())
    assert not seen.is_set()
    here.bump()
    assert seen.wait(20)
    watch.close()
    assert not watch.alive(time.monotonic())


def test_a_bump_is_told_and_nobody_waits_until_he_asks(state_of, monkeypatch):
    monkeypatch.setattr(postgres_state, "_LONGEST_PAUSE", 600)
    state, seen = state_of(), threading.Event()
    watch = state.watch(seen.set, lease_seconds=3000)
    for _ in range(3):
        state.bump()
        assert seen.wait(20)
        seen.clear()
    watch.close()


def test_a_bump_whose_notice_was_lost_is_seen_by_reading(state_of):
    state, seen = state_of(), threading.Event()
    watch = state.watch(seen.set)
    state._database.read("UPDATE counterseal_gateway SET epoch = epoch + 1 RETURNING 1")
    assert seen.wait(20)
    watch.close()


def test_a_watch_that_was_cut_off_learns_afterwards_what_it_missed(
    state_of, postgres_cluster, postgres
):
    state, seen = state_of(), threading.Event()
    watch = state.watch(seen.set)
    postgres_cluster.cut_off(postgres)
    state.bump()
    assert seen.wait(20)
    wait_until(lambda: watch.alive(time.monotonic()))
    watch.close()


def test_without_the_server_a_watch_is_dead_within_its_lease_and_lives_again_with_it(cluster):
    url = cluster.create()
    state, seen = PostgresState(url), threading.Event()
    watch = state.watch(seen.set, lease_seconds=1.0)
    cluster.stop()
    stopped = time.monotonic()
    assert not watch.alive(stopped + 1.001)  # nothing can be renewed any more
    wait_until(lambda: not watch.alive(time.monotonic()))
    cluster.start()
    wait_until(lambda: watch.alive(time.monotonic()))
    assert not seen.is_set()
    state.bump()
    assert seen.wait(20)
    watch.close()
    state.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_node_that_cannot_act_on_a_change_is_dead(state_of):
    state = state_of()

    def fail():
        raise KeyError("the shared file is gone")

    watch = state.watch(fail, lease_seconds=0.4)
    state.bump()
    wait_until(lambda: not watch.alive(time.monotonic()))
    watch.close()


def test_a_lease_too_short_to_hold_is_a_mistake(state_of):
    with pytest.raises(ValueError):
        state_of().watch(lambda: None, lease_seconds=0.1)


# The password

WRONG = {
    "nobody answers": lambda url: url.replace("127.0.0.1", "127.0.0.9"),
    "another password": lambda url: url.replace("secret", "secret2"),
    "no such database": lambda url: url + "x",
    "no such user": lambda url: url.replace("//postgres", "//nobody"),
    "not encoded": lambda url: url.replace("%2F", "/").replace("%25", "%"),
    "brackets": lambda url: url.replace("127.0.0.1", "[127.0.0.1"),
    "another scheme": lambda url: url.replace("postgresql", "mysql"),
    "an unknown option": lambda url: url + "?pass=1",
}


@pytest.mark.parametrize("how", WRONG)
def test_no_error_shows_the_password(postgres, how):
    url = WRONG[how](postgres)
    for opener in (PostgresState, lambda url: PostgresStore(url, "scan")):
        with pytest.raises(CountersealError) as caught:
            opener(url)
        assert caught.value.hint
        text = "".join(traceback.format_exception(caught.value))
        for secret in (PASSWORD, "pass/word", "pass%2Fword", "secret%"):
            assert secret not in text
        assert "secret" not in caught.value.message


@pytest.mark.parametrize("password", ["12/secret", "se/cret", "p@secret", "%secret", "#@"])
def test_a_password_that_was_not_encoded_is_not_taken_for_a_host_or_a_database(password):
    with pytest.raises(CountersealError) as caught:
        PostgresState(f"postgresql://lab:{password}@127.0.0.1:1/db")
    assert "not the URL" in caught.value.message
    assert password not in "".join(traceback.format_exception(caught.value))


def test_the_password_is_in_no_text_of_what_is_open(state_of):
    state = state_of()
    for one in (state, state._database):
        assert "secret" not in repr(one)
        assert "127.0.0.1" in repr(one)


def test_a_server_on_another_host_has_to_prove_who_it_is(state_of, monkeypatch):
    parse = state_of()._database._parse
    assert "sslmode" not in parse("postgresql://u:p@localhost/db")
    assert "sslmode" not in parse("postgresql:///db?host=/run/postgresql")
    far = parse("postgresql://u:p@db.example,localhost/db")
    assert (far["sslmode"], far["sslrootcert"]) == ("verify-full", "system")
    assert parse("postgresql://u:p@/db?hostaddr=192.0.2.1")["sslmode"] == "verify-full"
    own = parse("postgresql://u:p@db.example/db?sslmode=verify-ca&sslrootcert=ca.pem")
    assert (own["sslmode"], own["sslrootcert"]) == ("verify-ca", "ca.pem")
    assert "sslrootcert" not in parse("postgresql://u:p@db.example/db?sslmode=require")
    monkeypatch.setenv("PGHOST", "db.example")
    assert parse("postgresql:///db")["sslmode"] == "verify-full"
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert "sslmode" not in parse("postgresql:///db")


def test_a_server_that_stands_still_is_not_waited_for(cluster):
    state = PostgresState(cluster.create())
    watch = state.watch(lambda: None, lease_seconds=1.0)
    try:
        state.change(ONE, "cell", lambda _: (b"kept", None))
        with cluster.frozen():
            asked = time.monotonic()
            with pytest.raises(CountersealError):
                state.change(ONE, "cell", lambda _: (b"lost", None))
            assert time.monotonic() - asked < 10  # and not for ever
            assert not watch.alive(time.monotonic())
            with pytest.raises(CountersealError):  # nor again
                state.get(ONE, "cell")
        deadline = time.monotonic() + 30
        while not watch.alive(time.monotonic()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert state.get(ONE, "cell") in {b"kept", b"lost"}
    finally:
        watch.close()
        state.close()
