import pytest
from workshop import AT

from counterseal.errors import ReplayedMessage, RolledBack
from counterseal.exchange.replay import Arrival, Mark, Opened, SeenBook, decide
from counterseal.trust.store import Store

LAB, A, B = "1" * 64, "a" * 64, "b" * 64
OPENED = Opened(at=AT)
TABLE = {
    "the first of all": (None, None, 1, A, False, Mark(version=1, content=A)),
    "the next version": (Mark(version=1, content=A), None, 2, B, False, Mark(version=2, content=B)),
    "a jump forwards": (Mark(version=1, content=A), None, 9, A, False, Mark(version=9, content=A)),
    "the same, sealed again": (Mark(version=2, content=A), None, 2, A, False, Mark(version=2, content=A)),
    "the same with other contents": (Mark(version=2, content=A), None, 2, B, False, RolledBack),
    "an older version": (Mark(version=2, content=A), None, 1, A, False, RolledBack),
    "an older version, again": (Mark(version=2, content=A), OPENED, 1, A, True, RolledBack),
    "a replay": (Mark(version=2, content=A), OPENED, 2, A, False, ReplayedMessage),
    "a replay of an older one": (Mark(version=2, content=A), OPENED, 1, A, False, ReplayedMessage),
    "asked for again": (Mark(version=2, content=A), OPENED, 2, A, True, Mark(version=2, content=A)),
    "again, the first time": (None, None, 1, A, True, Mark(version=1, content=A)),
}  # fmt: skip


@pytest.mark.parametrize("sentence", TABLE)
def test_decide(sentence):
    mark, opened, version, content, again, expected = TABLE[sentence]
    arrival = Arrival(LAB, "scan", version, content, "p" * 32)
    if isinstance(expected, Mark):
        assert decide(arrival, mark=mark, opened=opened, again=again) == expected
    else:
        with pytest.raises(expected):
            decide(arrival, mark=mark, opened=opened, again=again)


def commit(store, arrival, **more):
    with store.exclusive():
        SeenBook(store).commit(arrival, at=AT, again=more.pop("again", False), **more)


def test_the_book_keeps_senders_and_models_apart():
    store = Store()
    commit(store, Arrival(LAB, "scan", 5, A, "0" * 32))
    commit(store, Arrival(LAB, "other", 1, A, "1" * 32))
    commit(store, Arrival("2" * 64, "scan", 1, A, "2" * 32))
    commit(store, Arrival("2" * 64, "scan", 2, A, "0" * 32))  # the id is only the sender's
    with pytest.raises(RolledBack):
        commit(store, Arrival(LAB, "scan", 4, A, "3" * 32))
    with pytest.raises(ReplayedMessage):
        commit(store, Arrival(LAB, "scan", 6, A, "0" * 32))


def test_a_kept_key_stays():
    store, arrival = Store(), Arrival(LAB, "scan", 5, A, "0" * 32)
    commit(store, arrival, kept=b"protected")
    commit(store, arrival, again=True)
    assert store.get("kept-key", f"/{LAB}/{'0' * 32}") == b"protected"
