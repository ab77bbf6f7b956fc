"""Sessions at a partner's gateway: addresses, folders, and calls that are remembered."""

import os
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from gateway import Town

from counterseal.crypto.tls_authority import TlsKey
from counterseal.errors import CountersealError, FormatError, SessionExpired, TrustError
from counterseal.gateway.client.opening import Opened, Where
from counterseal.gateway.session import SessionGrant
from counterseal.jobs import session as sessions
from counterseal.jobs.session import CallBook, where_of
from counterseal.ledger.witness import Call
from counterseal.trust.store import Store

pytest.importorskip("skl2onnx")


@pytest.fixture
def town(tmp_path):
    with Town(tmp_path / "town") as made:
        yield made


@pytest.fixture
def opened(town):
    gate = town.open()
    key = TlsKey.create()
    grant = msgspec.json.decode(gate.office.open_session(gate.ask(key=key)), type=SessionGrant)
    return Opened(
        kind="session", format=1, host="lab.example", port=8443, owner="11" * 32, us="22" * 32,
        charter=town.chain.charter.id, purpose="diagnosis", role="analyst",
        authority=gate.authority.certificate, key=key.pem, grant=grant,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://lab@lab.example:9443", (Where("lab.example", 9443), "lab")),
        ("https://lab.example", (Where("lab.example", 8443), None)),
        ("https://lab@[::1]:9443/", (Where("::1", 9443), "lab")),
    ],
)
def test_an_address_says_where_and_whose(url, found):
    assert where_of(url) == found


@pytest.mark.parametrize(
    "url",
    [
        "", "lab.example", "http://lab.example", "https://", "https://lab:pw@lab.example",
        "https://lab.example:99999", "https://lab.example/v2",
        "https://lab.example:x",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(url):
    with pytest.raises(FormatError):
        where_of(url)


def test_a_session_is_kept_whole_and_read_again(opened, tmp_path):
    folder = tmp_path / "session"
    sessions.keep(opened, folder)
    assert sessions.read_session(folder) == opened
    assert (folder / "token").read_text() == opened.grant.token
    assert (folder / "curl.conf").read_text().count(opened.grant.token) == 1


def test_only_its_owner_can_read_a_session(opened, tmp_path):
    folder = tmp_path / "session"
    sessions.keep(opened, folder)
    assert folder.stat().st_mode & 0o077 == 0
    for name in ("key.pem", "token", "curl.conf", "session.json"):
        assert (folder / name).stat().st_mode & 0o077 == 0


def test_a_session_replaces_a_session_and_nothing_else(opened, tmp_path):
    folder = tmp_path / "session"
    sessions.keep(opened, folder)
    sessions.keep(opened, folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises((CountersealError, OSError)):
        sessions.keep(opened, other)
    assert (other / "thesis.txt").read_text() == "mine"


def test_a_session_that_is_over_is_not_read(opened, tmp_path):
    over = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    past = msgspec.structs.replace(opened.grant, until=over)
    sessions.keep(msgspec.structs.replace(opened, grant=past), tmp_path / "session")
    with pytest.raises(SessionExpired):
        sessions.read_session(tmp_path / "session")


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 2000])
def test_a_folder_that_holds_no_session_is_said_so(tmp_path, data):
    folder = tmp_path / "session"
    folder.mkdir()
    (folder / "session.json").write_bytes(data)
    (folder / "session.json").chmod(0o600)
    with pytest.raises(CountersealError):
        sessions.read_session(folder)


def test_a_session_that_others_can_read_is_refused(opened, tmp_path):
    folder = tmp_path / "session"
    sessions.keep(opened, folder)
    (folder / "session.json").chmod(0o644)
    with pytest.raises(CountersealError):
        sessions.read_session(folder)


def test_an_address_in_another_partners_name_is_refused(town):
    town.agree()
    with pytest.raises(TrustError, match="and not rival's"):
        sessions.open_at(
            "https://rival@localhost:1", by=town.clinic, book=town.partners("clinic"),
            charter=town.chain.charter, role="analyst", purpose="diagnosis",
        )  # fmt: skip


def test_an_owner_who_is_not_pinned_is_refused(town, tmp_path):
    town.agree()
    from counterseal.trust.partner import PartnerBook

    with pytest.raises(TrustError, match="not pinned"):
        sessions.open_at(
            "https://localhost:1", by=town.clinic, book=PartnerBook(Store()),
            charter=town.chain.charter, role="analyst", purpose="diagnosis",
        )  # fmt: skip


@pytest.fixture
def book():
    return CallBook(Store(), "22" * 32, "c0" * 16)


def a_call(number=1):
    return Call.made(number.to_bytes(16, "big"), time=5)


def test_calls_are_kept_until_they_are_dropped(book):
    for number in (1, 2):
        book.keep(a_call(number))
    book.drop(a_call(1).id)
    assert book.all() == [a_call(2)]


def test_what_is_known_by_now_is_not_forgotten_with_what_was_known(book):
    made = a_call()
    book.keep(made)
    answered = made.answered(os.urandom(32), input=b"in", output=b"out")
    book.keep(answered)
    book.settle(made)
    assert book.all() == [answered]
    book.settle(answered)
    assert book.all() == []


def test_calls_are_of_one_charter(book):
    other = CallBook(book._store, "22" * 32, "c1" * 16)
    other.keep(a_call())
    assert book.all() == []


def test_a_folder_with_anything_else_in_it_is_no_place_for_a_session(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / sessions.SESSION).write_text("{}")
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError):
        sessions.check_place(mine)
    sessions.forget(mine)
    assert [one.name for one in mine.iterdir()] == ["thesis.tex"]


def test_a_link_is_no_place_for_a_session(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(FileExistsError):
        sessions.check_place(tmp_path / "link")


def test_a_session_that_was_kept_is_replaced_and_forgotten(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    for name in (sessions.SESSION, "key.pem", "token"):
        (folder / name).write_text("old")
    sessions.check_place(folder)
    sessions.forget(folder)
    assert not folder.exists()
    sessions.check_place(folder)
