"""What a mailbox answers; without sockets, without a clock."""

import errno
import os
from datetime import timedelta

import pytest
from office import block
from workshop import flip

from counterseal.crypto.digest import sha256
from counterseal.errors import CountersealError, Dropped
from counterseal.exchange.transports.https import Limits, Mailbox, Rate
from counterseal.exchange.transports.https.fields import digest_field
from counterseal.exchange.transports.https.messages import BytesBody, Later
from counterseal.exchange.transports.https.problems import from_problem
from counterseal.exchange.transports.https.uploads import PIECE_BYTES

DRAFT = {"upload_complete": "?1", "upload_draft_interop_version": "8"}
PARTIAL = {"content_type": "application/partial-upload"}


def said(answer):
    return type(from_problem(answer.status, answer.body)).__name__


@pytest.fixture
def lab(cast):
    return cast.lab


@pytest.fixture
def clinic(cast):
    return cast.clinic


# ---------------------------------------------------------------- who


def test_a_stranger_gets_nowhere(office, lab, clinic):
    name, data = block()
    for method, path in [
        ("PUT", f"/v1/blocks/{name}"),
        ("GET", f"/v1/blocks/{name}"),
        ("POST", "/v1/blocks/missing"),
        ("GET", "/v1/boxes"),
        ("GET", f"/v1/board/{office.box(lab, clinic)}"),
        ("PUT", "/v1/slots/7"),
        ("GET", "/etc/passwd"),
    ]:
        answer = office.ask(None, method, path, data)
        assert (answer.status, said(answer)) == (401, "TrustError")
    assert office.stored() == []


def test_a_revocation_acts_at_once(office, lab):
    peer = office.peer(lab)
    assert office.ask(lab, "GET", "/v1/boxes", peer=peer).status == 200
    lab.revoke(reason="lost", at=office.at)
    office.known[lab.history.identity] = lab.history
    answer = office.ask(lab, "GET", "/v1/boxes", peer=peer)
    assert (answer.status, said(answer)) == (403, "RevokedKey")
    del office.known[lab.history.identity]
    assert said(office.ask(lab, "GET", "/v1/boxes", peer=peer)) == "UnknownPartner"


def test_a_connection_has_one_client(office, lab):
    answer = office.ask(lab, "POST", "/v1/session", b"")
    assert answer.status == 409
    assert office.ask(lab, "DELETE", "/v1/session").status == 405


@pytest.mark.parametrize("path", ["/", "/v1/blocks/ab", "/v1/blocks/../lock", "/v2/boxes", "*"])
def test_other_places_are_not_there(office, lab, path):
    assert office.ask(lab, "GET", path).status == 404


def test_other_methods_are_not_allowed(office, lab):
    answer = office.ask(lab, "DELETE", f"/v1/blocks/{'0' * 64}")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, PUT, OPTIONS"


# ---------------------------------------------------------------- blocks


def test_a_block_comes_and_goes(office, lab):
    name, data = block()
    assert office.missing(lab, [name])[0] == [name]
    answer = office.put(lab, data)
    assert (answer.status, answer.headers["etag"]) == (201, f'"{name}"')
    assert office.missing(lab, [name])[0] == []
    assert office.put(lab, data).status == 200
    answer = office.ask(lab, "GET", f"/v1/blocks/{name}")
    assert (answer.status, answer.body) == (200, data)
    assert office.ask(lab, "HEAD", f"/v1/blocks/{name}").status == 200


def test_an_empty_block(office, lab):
    name, data = block(0)
    assert office.put(lab, data).status == 201
    assert office.ask(lab, "GET", f"/v1/blocks/{name}").body == b""


def test_wrong_bytes_never_get_the_name(office, lab):
    name, data = block()
    answer = office.ask(lab, "PUT", f"/v1/blocks/{name}", flip(data, -1))
    assert (answer.status, said(answer)) == (422, "BadCiphertext")
    assert office.stored() == []
    assert office.missing(lab, [name])[0] == [name]


def test_ranges(office, lab):
    name, data = block()
    office.put(lab, data)
    path = f"/v1/blocks/{name}"
    answer = office.ask(lab, "GET", path, range="bytes=10-19")
    assert (answer.status, answer.body) == (206, data[10:20])
    assert answer.headers["content-range"] == f"bytes 10-19/{len(data)}"
    answer = office.ask(lab, "GET", path, range=f"bytes={len(data)}-")
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(data)}"
    answer = office.ask(lab, "GET", path, range="bytes=10-", if_range='"other"')
    assert (answer.status, answer.body) == (200, data)
    answer = office.ask(lab, "GET", path, range="bytes=10-", if_range=f'"{name}"')
    assert answer.status == 206
    answer = office.ask(lab, "GET", path, if_none_match=f'"x", "{name}"')
    assert (answer.status, answer.body) == (304, b"")


def test_sha_256_is_checked_when_sent_and_sent_when_wanted(office, lab):
    name, data = block()
    good, bad = digest_field(sha256(data)), digest_field(sha256(b""))
    for wrong in ({"repr_digest": bad}, {"content_digest": bad}):
        answer = office.put(lab, data, **wrong)
        assert said(answer) == "BadCiphertext"
        assert office.missing(lab, [name])[0] == [name]
    answer = office.put(
        lab, data, repr_digest=good, content_digest=good, want_repr_digest="sha-256=1"
    )
    assert (answer.status, answer.headers["repr-digest"]) == (201, good)
    answer = office.ask(lab, "GET", f"/v1/blocks/{name}", want_repr_digest="sha-256=5")
    assert answer.headers["repr-digest"] == good


def test_a_block_that_is_too_large(office, lab):
    office.open(block_bytes=1000)
    answer = office.put(lab, block(1001)[1])
    assert (answer.status, said(answer)) == (413, "FormatError")
    assert answer.headers["upload-limit"] == "max-size=1000, max-age=86400"
    answer = office.ask(lab, "OPTIONS", f"/v1/blocks/{'0' * 64}")
    assert answer.headers["upload-limit"] == "max-size=1000, max-age=86400"


def test_a_full_disk_leaves_nothing(office, lab, monkeypatch):
    name, data = block(3 * PIECE_BYTES)
    real, written = os.pwrite, []

    def full(descriptor, piece, offset):
        if written:
            raise OSError(errno.ENOSPC, "no space")
        written.append(offset)
        return real(descriptor, piece, offset)

    monkeypatch.setattr(os, "pwrite", full)
    answer = office.put(lab, data)
    assert answer.status == 507
    monkeypatch.undo()
    assert office.missing(lab, [name])[0] == [name]
    assert office.ask(lab, "GET", f"/v1/blocks/{name}").status == 404
    (partial,) = office.missing(lab, [name])[1]  # what arrived is kept for the next attempt
    assert partial.offset == PIECE_BYTES


def test_the_last_bytes_of_the_disk_are_not_ours(office, lab):
    office.open(spare_bytes=1 << 60)
    assert office.put(lab, block()[1]).status == 507
    assert office.stored() == []


# ---------------------------------------------------------------- uploads that continue


def interrupted(office, lab, data, after, **headers):
    name = block_name(data)
    with pytest.raises(Dropped):
        raise from_lost(office.put(lab, data, lost_after=after, **headers))
    return name


def block_name(data):
    from counterseal.crypto.digest import leaf_digest

    return leaf_digest(data).hex()


def from_lost(answer):
    """A lost connection has no answer; the mailbox makes one nobody gets."""
    assert answer.status >= 400
    return Dropped("lost")


def test_an_upload_is_announced_and_continued(office, lab):
    _, data = block(500_000)
    name = interrupted(office, lab, data, 200_000, **DRAFT)
    ((status, headers),) = office.interim
    assert status == 104
    assert headers["upload-draft-interop-version"] == "8"
    assert headers["upload-limit"].startswith("max-size=")
    place = headers["location"]
    answer = office.ask(lab, "HEAD", place)
    assert answer.status == 204
    assert answer.headers["upload-offset"] == "200000"
    assert answer.headers["upload-length"] == "500000"
    assert answer.headers["upload-complete"] == "?0"
    assert answer.headers["cache-control"] == "no-store"
    answer = office.ask(
        lab, "PATCH", place, data[200_000:300_000], upload_offset="200000", upload_complete="?0",
        **PARTIAL,
    )  # fmt: skip
    assert (answer.status, answer.headers["upload-offset"]) == (204, "300000")
    answer = office.ask(
        lab, "PATCH", place, data[300_000:], upload_offset="300000", upload_complete="?1", **PARTIAL
    )
    assert (answer.status, answer.headers["upload-complete"]) == (201, "?1")
    assert office.ask(lab, "GET", f"/v1/blocks/{name}").body == data
    assert office.ask(lab, "HEAD", place).status == 404


def test_who_speaks_another_version_of_the_draft_is_told_nothing(office, lab):
    office.put(lab, block()[1], upload_complete="?1", upload_draft_interop_version="7")
    office.put(lab, block()[1], upload_complete="?1")
    office.put(lab, block()[1], upload_draft_interop_version="8")
    assert office.interim == []


def test_a_block_in_parts(office, lab):
    name, data = block(1000)
    answer = office.ask(
        lab, "PUT", f"/v1/blocks/{name}", data[:400], upload_complete="?0", upload_length="1000"
    )
    assert answer.status == 201
    place = answer.headers["location"]
    assert office.missing(lab, [name])[0] == [name]
    answer = office.ask(
        lab, "PATCH", place, data[400:], upload_offset="400", upload_complete="?1", **PARTIAL
    )
    assert answer.status == 201
    assert office.missing(lab, [name])[0] == []
    answer = office.ask(lab, "PUT", f"/v1/blocks/{'1' * 64}", b"x", upload_complete="?0")
    assert answer.status == 413  # of a length that nobody has said


def test_the_wrong_offset_is_told_the_right_one(office, lab):
    _, data = block(500_000)
    interrupted(office, lab, data, 200_000, **DRAFT)
    place = office.interim[0][1]["location"]
    answer = office.ask(
        lab, "PATCH", place, data[1:], upload_offset="1", upload_complete="?1", **PARTIAL
    )
    assert (answer.status, answer.headers["upload-offset"]) == (409, "200000")
    assert answer.headers["upload-complete"] == "?0"
    assert office.ask(lab, "HEAD", place).headers["upload-offset"] == "200000"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"upload_offset": "0", "upload_complete": "?1"}, 415),
        ({"upload_complete": "?1", **PARTIAL}, 400),
        ({"upload_offset": "0", **PARTIAL}, 400),
        ({"upload_offset": "-1", "upload_complete": "?1", **PARTIAL}, 400),
    ],
)
def test_an_append_says_what_it_is(office, lab, headers, status):
    interrupted(office, lab, block(500_000)[1], 200_000, **DRAFT)
    place = office.interim[0][1]["location"]
    assert office.ask(lab, "PATCH", place, b"x", **headers).status == status


def test_more_than_was_announced_ends_the_upload(office, lab):
    interrupted(office, lab, block(500_000)[1], 200_000, **DRAFT)
    place = office.interim[0][1]["location"]
    answer = office.ask(
        lab, "PATCH", place, bytes(300_001), upload_offset="200000", upload_complete="?0", **PARTIAL
    )
    assert answer.status == 400
    assert office.ask(lab, "HEAD", place).status == 404
    assert office.stored() == []
    assert office.mailbox.desk.shelf.blocks.used(lab.history.identity) == 0


def test_a_content_digest_guards_one_append(office, lab):
    _, data = block(500_000)
    name = interrupted(office, lab, data, 200_000, **DRAFT)
    place = office.interim[0][1]["location"]
    rest = {"upload_offset": "200000", "upload_complete": "?1", **PARTIAL}
    changed = flip(data[200_000:], -1)
    promised = digest_field(sha256(data[200_000:]))
    answer = office.ask(lab, "PATCH", place, changed, content_digest=promised, **rest)
    assert said(answer) == "BadCiphertext"
    assert office.ask(lab, "HEAD", place).headers["upload-offset"] == "200000"
    assert office.ask(lab, "PATCH", place, data[200_000:], **rest).status == 201
    assert office.missing(lab, [name])[0] == []


def test_an_upload_is_canceled(office, lab):
    interrupted(office, lab, block(500_000)[1], 200_000, **DRAFT)
    place = office.interim[0][1]["location"]
    assert office.ask(lab, "DELETE", place).status == 204
    assert office.ask(lab, "DELETE", place).status == 404
    assert office.stored() == []


def test_an_upload_outlives_the_process(office, lab):
    _, data = block(500_000)
    promised = digest_field(sha256(data))
    name = interrupted(office, lab, data, 200_000, repr_digest=promised)
    office.open()
    absent, (partial,) = office.missing(lab, [name])
    assert (absent, partial.name, partial.offset) == ([name], name, 200_000)
    answer = office.ask(
        lab, "PATCH", f"/v1/uploads/{partial.id}", data[200_000:],
        upload_offset="200000", upload_complete="?1", **PARTIAL,
    )  # fmt: skip
    assert answer.status == 201
    assert office.stored() == [name]


def test_a_beginning_that_was_damaged_is_thrown_away(office, lab):
    _, data = block(500_000)
    name = interrupted(office, lab, data, 200_000)
    (path,) = [p for p in (office.root / "uploads").rglob("*") if p.is_file()]
    office.close()
    path.write_bytes(bytes(200_000))  # as a file system may leave it after a crash
    office.open()
    (partial,) = office.missing(lab, [name])[1]
    answer = office.ask(
        lab, "PATCH", f"/v1/uploads/{partial.id}", data[200_000:],
        upload_offset="200000", upload_complete="?1", **PARTIAL,
    )  # fmt: skip
    assert said(answer) == "BadCiphertext"
    assert office.stored() == []


class Stuck(BytesBody):
    """A body whose connection nobody noticed to be dead."""

    def __init__(self, data, begun, aborted):
        super().__init__(data)
        self._begun, self._aborted = begun, aborted

    def read_into(self, view):
        if self._at == 0:
            return super().read_into(view[:1000])
        self._begun.set()
        self._aborted.wait(30)
        raise Dropped("aborted")

    def abort(self):
        self._aborted.set()


def test_the_newest_request_ends_an_older_one_of_the_same_upload(office, lab):
    import threading

    begun, aborted = threading.Event(), threading.Event()
    name, data = block(5000)
    stuck = Stuck(data, begun, aborted)
    peer = office.peer(lab)
    thread = threading.Thread(
        target=office.ask, args=(lab, "PUT", f"/v1/blocks/{name}", stuck), kwargs=DRAFT
    )
    thread.start()
    assert begun.wait(30)
    assert office.missing(lab, [name])[1] == ()  # somebody else may be at it
    ((_, identifier),) = office.mailbox.desk.shelf.blocks._open
    answer = office.ask(lab, "HEAD", f"/v1/uploads/{identifier}", peer=peer)
    thread.join()
    assert answer.headers["upload-offset"] == "1000"


# ---------------------------------------------------------------- letters


def test_a_letter_arrives_with_its_blocks(office, lab, clinic):
    name, data = block()
    answer = office.post(lab, clinic, names=[name])
    assert answer.status == 409
    assert office.listed(clinic) == []
    office.put(lab, data)
    answer = office.post(lab, clinic, names=[name, name])
    assert answer.status == 201
    place = answer.headers["location"]
    (letter,) = office.listed(clinic)
    assert place == f"/v1/boxes/{letter['box']}/letters/{letter['id']}"
    assert letter == {"box": office.box(lab, clinic), "id": letter["id"], "size": 6}
    assert office.ask(clinic, "GET", place).body == b"letter"
    assert office.ask(clinic, "GET", f"/v1/blocks/{name}").body == data
    assert office.ask(clinic, "DELETE", place).status == 204
    assert office.ask(clinic, "DELETE", place).status == 404
    assert office.stored() == []
    assert office.mailbox.desk.shelf.blocks.used(lab.history.identity) == 0


def test_a_letter_posted_again_is_the_same(office, lab, clinic):
    assert office.post(lab, clinic).status == 201
    assert office.post(lab, clinic).status == 200
    assert len(office.listed(clinic)) == 1


def test_blocks_stay_while_a_letter_names_them(office, lab, clinic, cast):
    name, data = block()
    office.put(lab, data)
    first = office.post(lab, clinic, names=[name]).headers["location"]
    second = office.post(lab, cast.rival, names=[name]).headers["location"]
    office.ask(clinic, "DELETE", first)
    assert office.ask(clinic, "GET", f"/v1/blocks/{name}").status == 404
    assert office.ask(cast.rival, "GET", f"/v1/blocks/{name}").body == data
    office.ask(cast.rival, "DELETE", second)
    assert office.stored() == []


def test_letters_come_oldest_first_and_in_pages(office, lab, clinic, cast):
    office.open(postings=Rate(count=1, seconds=1, burst=1000))
    for number in range(105):
        office.post(lab, clinic, b"%d" % number)
    office.post(cast.rival, clinic, b"x")
    page = office.listed(clinic)
    assert len(page) == 100
    rest = office.listed(clinic, f"?after={page[-1]['id']}")
    assert len(rest) == 6
    box = office.box(cast.rival, clinic)
    (only,) = office.listed(clinic, f"?box={box}")
    assert only["box"] == box


@pytest.mark.parametrize("query", ["?box=x", "?after=x", "?wait=x", "?wait=-1", "?wait=99999"])
def test_questions_that_are_none(office, clinic, query):
    assert office.ask(clinic, "GET", f"/v1/boxes{query}").status == 400


def test_waiting_for_a_letter(office, lab, clinic):
    answer = office.ask(clinic, "GET", "/v1/boxes?wait=25")
    assert answer == Later(25)
    assert office.ask(clinic, "GET", "/v1/boxes?wait=9999") == Later(30)
    assert office.ask(clinic, "GET", "/v1/boxes?wait=25", waited=True).status == 200
    office.post(lab, clinic)
    assert office.ask(clinic, "GET", "/v1/boxes?wait=25").status == 200


def test_a_letter_to_nobody(office, lab, cast):
    answer = office.post(lab, cast.bank)
    assert (answer.status, said(answer)) == (403, "UnknownPartner")
    answer = office.post(lab, lab)
    assert said(answer) == "FormatError"


def test_what_an_earlier_run_left_is_checked_before_a_letter_names_it(office, lab, clinic):
    name, data = block()
    other, more = block()
    office.put(lab, data)
    office.put(lab, more)
    path = office.mailbox.desk.shelf.blocks.path(lab.history.identity, name)
    office.close()
    path.write_bytes(bytes(len(data)))  # a crash of the machine kept the name only
    office.open()
    assert office.post(lab, clinic, names=[name, other]).status == 409
    assert office.missing(lab, [name, other])[0] == [name]
    office.put(lab, data)
    assert office.post(lab, clinic, names=[name, other]).status == 201


def test_everything_acknowledged_outlives_the_process(office, lab, clinic):
    name, data = block()
    office.put(lab, data)
    office.post(lab, clinic, names=[name])
    office.ask(lab, "PUT", "/v1/slots/7")
    office.ask(None, "POST", "/v1/slots/7/messages", b"hello")
    office.open()
    assert len(office.listed(clinic)) == 1
    assert office.ask(clinic, "GET", f"/v1/blocks/{name}").body == data
    assert office.ask(None, "GET", "/v1/slots/7/messages/0").body == b"hello"


def test_what_has_ended_is_swept(office, lab, clinic):
    named, data = block()
    more = block()[1]
    office.put(lab, data)
    office.put(lab, more)
    interrupted(office, lab, block(500_000)[1], 200_000)
    office.post(lab, clinic, names=[named])
    for path in office.root.rglob("*"):
        if path.is_file():
            os.utime(path, (office.at.timestamp(),) * 2)
    office.mailbox.sweep(at=office.at + timedelta(hours=23))
    assert len(office.stored()) == 3
    office.mailbox.sweep(at=office.at + timedelta(hours=25))
    assert office.stored() == [named]
    office.mailbox.sweep(at=office.at + timedelta(days=31))
    assert office.stored() == []
    assert office.listed(clinic) == []
    assert office.mailbox.desk.shelf.blocks.used(lab.history.identity) == 0


# ---------------------------------------------------------------- how much


def test_quotas(office, lab, clinic):
    office.open(stored_bytes=1000, letters=2)
    assert office.put(lab, block(600)[1]).status == 201
    answer = office.put(lab, block(401)[1])
    assert (answer.status, said(answer)) == (429, "QuotaExceeded")
    assert office.put(clinic, block(401)[1]).status == 201  # their own
    assert said(office.post(lab, clinic, bytes(500))) == "QuotaExceeded"
    for number in range(2):
        assert office.post(lab, clinic, b"%d" % number).status == 201
    assert said(office.post(lab, clinic, b"x")) == "QuotaExceeded"
    for letter in office.listed(clinic):
        office.ask(clinic, "DELETE", f"/v1/boxes/{letter['box']}/letters/{letter['id']}")
    assert office.post(lab, clinic, b"x").status == 201


def test_unfinished_uploads_count(office, lab):
    office.open(stored_bytes=600_000)
    interrupted(office, lab, block(500_000)[1], 200_000)
    assert said(office.put(lab, block(200_000)[1])) == "QuotaExceeded"
    office.open(stored_bytes=10**9, uploads=1)
    assert said(office.put(lab, block(200_000)[1])) == "QuotaExceeded"


def test_a_finished_block_takes_its_other_beginnings_along(office, lab):
    _, data = block(500_000)
    interrupted(office, lab, data, 200_000)
    name = interrupted(office, lab, data, 300_000)
    assert office.put(lab, data).status == 201
    assert office.stored() == [name]
    assert office.mailbox.desk.shelf.blocks.used(lab.history.identity) == 500_000


def test_rates(office, lab, clinic):
    office.open(
        requests=Rate(count=1, seconds=1, burst=3),
        strangers=Rate(count=1, seconds=10, burst=2),
        postings=Rate(count=1, seconds=60, burst=1),
    )
    assert office.post(lab, clinic, b"1").status == 201
    answer = office.post(lab, clinic, b"2")
    assert (answer.status, answer.headers["retry-after"]) == (429, "60")
    assert office.ask(lab, "GET", "/v1/boxes").status == 200
    answer = office.ask(lab, "GET", "/v1/boxes")
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert office.ask(clinic, "GET", "/v1/boxes").status == 200
    for _ in range(2):
        assert office.ask(None, "GET", "/v1/slots/1/messages/0").status == 404
    assert office.ask(None, "GET", "/v1/slots/1/messages/0").status == 429
    elsewhere = office.peer(address="10.0.0.2")
    assert office.ask(None, "GET", "/v1/slots/1/messages/0", peer=elsewhere).status == 404


def test_one_process_for_one_folder(office, cast):
    with pytest.raises(CountersealError, match="another process"):
        Mailbox(office.root, identity=cast.bank, lookup={}.get, limits=Limits())


def test_contents_have_a_limit(office, lab, clinic):
    path = f"/v1/boxes/{office.box(lab, clinic)}/letters"
    assert office.ask(lab, "POST", path, bytes((8 << 20) + 1)).status == 400
    assert office.ask(lab, "POST", path, b"{}").status == 400
    assert office.post(lab, clinic, bytes((4 << 20) + 1)).status == 400
    assert office.ask(lab, "POST", "/v1/blocks/missing", b"[]").status == 400
    board = f"/v1/board/{office.box(lab, clinic)}"
    to = clinic.history.identity
    large = bytes((4 << 20) + 1)
    answer = office.ask(lab, "PUT", board, large, if_none_match="*", counterseal_recipient=to)
    assert answer.status == 400


# ---------------------------------------------------------------- the notice board


def test_the_board_loses_no_update(office, lab, clinic):
    path = f"/v1/board/{office.box(lab, clinic)}"
    to = {"counterseal_recipient": clinic.history.identity}
    assert office.ask(clinic, "GET", path).status == 404
    assert office.ask(lab, "PUT", path, b"1", **to).status == 428
    assert office.ask(lab, "PUT", path, b"1", if_match='"x"', **to).status == 412
    first = office.ask(lab, "PUT", path, b"1", if_none_match="*", **to)
    assert first.status == 204
    assert office.ask(lab, "PUT", path, b"2", if_none_match="*", **to).status == 412
    tag = first.headers["etag"]
    second = office.ask(lab, "PUT", path, b"2", if_match=tag, **to)
    assert second.status == 204
    answer = office.ask(lab, "PUT", path, b"3", if_match=tag, **to)
    assert (answer.status, said(answer)) == (412, "RolledBack")
    answer = office.ask(clinic, "GET", path)
    assert (answer.status, answer.body) == (200, b"2")
    assert answer.headers["cache-control"] == "private, no-cache"
    answer = office.ask(clinic, "GET", path, if_none_match=second.headers["etag"])
    assert answer.status == 304
    assert office.ask(lab, "PUT", path, b"3", if_match="*", **to).status == 204


@pytest.mark.parametrize("to", ["", "clinic", "A" * 64])
def test_a_notice_is_for_somebody(office, lab, clinic, to):
    path = f"/v1/board/{office.box(lab, clinic)}"
    answer = office.ask(lab, "PUT", path, b"1", if_none_match="*", counterseal_recipient=to)
    assert answer.status == 400


# ---------------------------------------------------------------- slots


def test_two_meet_in_a_slot(office, lab):
    assert office.ask(None, "POST", "/v1/slots/7/messages", b"x").status == 404
    assert office.ask(lab, "PUT", "/v1/slots/7").status == 201
    answer = office.ask(None, "POST", "/v1/slots/7/messages", b"hello")
    assert (answer.status, answer.headers["location"]) == (201, "/v1/slots/7/messages/0")
    answer = office.ask(None, "POST", "/v1/slots/7/messages", b"hello")
    assert answer.headers["location"] == "/v1/slots/7/messages/0"  # sent again
    assert office.ask(lab, "GET", "/v1/slots/7/messages/0?wait=9").body == b"hello"
    assert office.ask(lab, "GET", "/v1/slots/7/messages/1?wait=9") == Later(9)
    assert office.ask(lab, "GET", "/v1/slots/7/messages/1?wait=9", waited=True).status == 204


def test_a_slot_is_small_and_ends(office, lab, clinic):
    office.ask(lab, "PUT", "/v1/slots/7")
    long = bytes(256 * 1024 + 1)
    assert office.ask(None, "POST", "/v1/slots/7/messages", long).status == 400
    for number in range(8):
        assert office.ask(None, "POST", "/v1/slots/7/messages", b"%d" % number).status == 201
    answer = office.ask(None, "POST", "/v1/slots/7/messages", b"x")
    assert said(answer) == "QuotaExceeded"
    assert office.ask(clinic, "PUT", "/v1/slots/7").status == 409
    office.at += timedelta(hours=1)
    assert office.ask(None, "GET", "/v1/slots/7/messages/0").status == 404
    assert office.ask(clinic, "PUT", "/v1/slots/7").status == 201
    assert office.ask(None, "GET", "/v1/slots/7/messages/0").status == 204


def test_slots_are_opened_and_closed_by_their_owner(office, lab, clinic):
    office.open(slots=2)
    for number in (1, 2):
        assert office.ask(lab, "PUT", f"/v1/slots/{number}").status == 201
    assert said(office.ask(lab, "PUT", "/v1/slots/3")) == "QuotaExceeded"
    office.ask(None, "POST", "/v1/slots/1/messages", b"x")
    assert office.ask(lab, "PUT", "/v1/slots/1").status == 201  # again, empty
    assert office.ask(None, "GET", "/v1/slots/1/messages/0").status == 204
    assert office.ask(clinic, "DELETE", "/v1/slots/1").status == 204
    assert office.ask(None, "GET", "/v1/slots/1/messages/0").status == 204
    assert office.ask(None, "POST", "/v1/slots/1/messages", b"last").status == 201
    assert office.ask(lab, "DELETE", "/v1/slots/1").status == 204
    assert office.ask(None, "GET", "/v1/slots/1/messages/0").body == b"last"
    assert office.ask(None, "GET", "/v1/slots/1/messages/1").status == 404
    assert office.ask(None, "POST", "/v1/slots/1/messages", b"later").status == 404
    assert said(office.ask(lab, "PUT", "/v1/slots/3")) == "QuotaExceeded"  # it still counts
    office.at += timedelta(seconds=59)
    assert office.ask(None, "GET", "/v1/slots/1/messages/0").body == b"last"
    assert office.ask(lab, "DELETE", "/v1/slots/1").status == 204
    office.at += timedelta(seconds=1)
    assert office.ask(None, "GET", "/v1/slots/1/messages/0").status == 404
    assert office.ask(lab, "PUT", "/v1/slots/3").status == 201
    office.at += timedelta(hours=2)
    office.mailbox.sweep(at=office.at)
    assert office.mailbox._index.rows("SELECT * FROM messages") == []


def test_who_waits_is_counted_once(office, lab):
    office.open(
        requests=Rate(count=1, seconds=60, burst=2), strangers=Rate(count=1, seconds=60, burst=1)
    )
    assert office.ask(lab, "PUT", "/v1/slots/7").status == 201
    assert office.ask(lab, "GET", "/v1/boxes?wait=9") == Later(9)
    assert office.ask(None, "GET", "/v1/slots/7/messages/0?wait=9") == Later(9)
    for _ in range(5):  # something happened, for somebody else
        assert office.ask(lab, "GET", "/v1/boxes?wait=9", again=True) == Later(9)
        answer = office.ask(None, "GET", "/v1/slots/7/messages/0?wait=9", again=True)
        assert answer == Later(9)
    assert office.ask(lab, "GET", "/v1/boxes").status == 429


def test_trouble_in_the_operators_home_stays_there(office, lab):
    def lookup(identity):
        raise CountersealError(f"cannot use the state in /home/bank: {identity}")

    office.shut()
    office.mailbox = Mailbox(office.root, identity=office.cast.bank, lookup=lookup)
    answer = office.ask(lab, "GET", "/v1/boxes")
    assert answer.status == 500
    assert b"/home" not in answer.body
