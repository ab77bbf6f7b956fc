"""Notices and blocks: what a sender lists, and what a notice may say."""

import os

import msgspec
import pytest
from post import blocks_of, outgoing
from workshop import AT

from counterseal.crypto.chunked import sealed_bytes
from counterseal.crypto.digest import DIGEST_BYTES, leaf_digest
from counterseal.errors import FormatError, TamperError
from counterseal.exchange import amend, layout, shipment
from counterseal.exchange.plan import ForKeys
from counterseal.exchange.shipment import (
    BLOCK_BYTES,
    MAX_BLOCKS,
    MAX_SIZE,
    Notice,
    Plan,
    block_bytes_for,
    digests,
    file_name,
    front_message,
)
from counterseal.wire import canonical, limits

MIB = 1 << 20


@pytest.fixture
def package(bench):
    return bench.seal({"w.bin": os.urandom(3 * MIB + 5)})


def notice_of(size, *, body=8192, **change):
    """A notice that fits together, with made-up digests."""
    block = block_bytes_for(size)
    front, blocks = -(-sealed_bytes(body) // block), -(-(size - body) // block)
    both = os.urandom(DIGEST_BYTES * (front + blocks))
    return Notice(
        **{
            "kind": "shipment",
            "format": 1,
            "file": "m.sealed",
            "package": "0" * 32,
            "size": size,
            "body": body,
            "block_bytes": block,
            "key": bytes(32),
            "front": both[: DIGEST_BYTES * front],
            "blocks": both[DIGEST_BYTES * front :],
            **change,
        }
    )


def parse(notice):
    return Notice.parse(canonical.encode(notice))


def test_the_blocks_are_the_package(package):
    """Put together by the notice alone, as SPEC 11 tells it."""
    notice, blocks = blocks_of(package)
    assert parse(notice) == notice
    assert all(leaf_digest(data).hex() == name for name, data in blocks.items())
    names = notice.names()
    count = len(notice.plan.front)
    sealed = b"".join(blocks[name] for name in names[:count])
    message = front_message(notice.key, notice.body, prefix=sealed[:56])
    whole = message.open_whole(sealed) + b"".join(blocks[name] for name in names[count:])
    assert whole == package.read_bytes()
    assert notice.file == package.name


def test_a_front_is_never_encrypted_alike(package):
    one, two = blocks_of(package)[0], blocks_of(package)[0]
    assert one.key != two.key
    assert one.front != two.front
    assert one.blocks == two.blocks  # that is what lets a second letter go on with the first


def test_sizes_and_progress(package):
    with outgoing(package) as out:
        assert sum(map(out.size, out.names)) == out.total
        assert all(len(out.read(name)) == out.size(name) for name in out.names)
        assert out.total == sealed_bytes(out.notice.body) + out.notice.size - out.notice.body
        seen = []
        places = out.notice.plan.blocks
        digests(out._descriptor, places, progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (sum(length for _, length in places),) * 2


@pytest.mark.parametrize("how", ["a byte", "with the old time", "shorter", "longer first"])
def test_a_file_that_changes_while_it_is_sent(package, how):
    with outgoing(package) as out:
        facts = package.stat()
        data = bytearray(package.read_bytes())
        data[-1] ^= 1
        data = {"shorter": data[:-1], "longer first": data + b"\0"}.get(how, data)
        package.write_bytes(data)
        if how == "with the old time":
            os.utime(package, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        with pytest.raises(TamperError):
            out.read(out.names[-1])


def test_a_file_that_changed_between_listing_and_sending(package):
    """The digests were taken; then somebody wrote; then the first block is asked for."""
    with outgoing(package) as out:
        again = out.with_front(out.notice, out.sealed_front)
        with package.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"?")
        with pytest.raises(TamperError, match="changed while"):
            again.read(again.names[-1])


def test_the_front_that_was_verified_is_the_one_that_travels(bench, package):
    """A change that was interrupted has half a front in the file and the whole in its journal."""
    from counterseal.jobs.open import read_package_front

    recipient = ForKeys(bench.bank.key_id, bench.bank.history.newest.card.agreement.key())
    before = package.read_bytes()
    amend.add_recipient(package, recipient, by=bench.lab, at=AT)
    after = package.read_bytes()
    content = after[: layout.parse_fixed(after).end]
    journal = amend.journal_path(package)
    from counterseal.crypto.digest import sha256

    journal.write_bytes(b"counterseal journal 1\n" + sha256(content) + content)
    package.write_bytes(after[:3000] + before[3000:])
    descriptor = os.open(package, os.O_RDONLY)
    try:
        front = read_package_front(package, descriptor)
        front.verify(bench.lab.history, at=AT)
        out = shipment.Outgoing.of(package, descriptor, front=front)
        assert out.plain_front == after[: out.notice.body]
    finally:
        os.close(descriptor)


# ── what a notice may say ───────────────────────────────────────────────────────────────────

GOOD = notice_of(40 * MIB)
TWICE = bytes(DIGEST_BYTES)
CONTRADICTIONS = {
    "more blocks than the size asks for": {"blocks": GOOD.blocks + bytes(32)},
    "fewer blocks": {"blocks": GOOD.blocks[:-32]},
    "half a digest": {"blocks": GOOD.blocks[:-1]},
    "no front": {"front": b""},
    "a front of one more block": {"front": GOOD.front + bytes(32)},
    "another size": {"size": GOOD.size + 9 * MIB},
    "a body behind the end": {"body": GOOD.size},
    "a body far behind the end": {"body": layout.MAX_BODY},
    "no body": {"body": 0},
    "a body beyond all limits": {"body": layout.MAX_BODY + 1},
    "no size": {"size": 0},
    "a negative size": {"size": -1},
    "a size beyond all limits": {"size": MAX_SIZE + 1},
    "a short key": {"key": bytes(31)},
    "a long key": {"key": bytes(33)},
    "blocks of two bytes": {"block_bytes": 2},
    "blocks of no bytes": {"block_bytes": 0},
    "twice as long blocks": {"block_bytes": 2 * MIB},
    "one block for all of it": {"block_bytes": 1 << 52, "blocks": bytes(32)},
    "one name for blocks of two lengths": {"blocks": TWICE * (len(GOOD.blocks) // 32)},
    "one name in front and body": {"front": GOOD.blocks[:32]},
    "another kind": {"kind": "receipt"},
    "another format": {"format": 2},
    "a package id in capitals": {"package": "A" * 32},
    "a short package id": {"package": "0" * 31},
}


@pytest.mark.parametrize("sentence", CONTRADICTIONS)
def test_contradictions(sentence):
    assert parse(GOOD) == GOOD
    with pytest.raises(FormatError):
        parse(msgspec.structs.replace(GOOD, **CONTRADICTIONS[sentence]))


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../m", "a/b", "/etc/passwd", ".bashrc", "-rf", "a\\b", "a\0b", "a\nb", "m.sealed\n", "a b", "ä", "a" * 129, "%2e", "m:x"],
)  # fmt: skip
def test_hostile_file_names(name):
    with pytest.raises(FormatError):
        parse(msgspec.structs.replace(GOOD, file=name))


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("scan.sealed", "scan.sealed"),
        ("Größe 2.sealed", "Gr__e_2.sealed"),
        (".hidden", "hidden"),
        ("---", "package.sealed"),
        ("ééé", "package.sealed"),
        ("a" * 200 + ".sealed", "a" * 121 + ".sealed"),
        ("." * 100 + "x" * 100, "x" * 100),
    ],
)
def test_names_that_are_proposed_are_accepted(name, proposed, tmp_path):
    assert file_name(tmp_path / name) == proposed
    assert parse(msgspec.structs.replace(GOOD, file=proposed)).file == proposed


def test_one_form(package):
    data = canonical.encode(GOOD)
    for other in (data + b"\n", data[:-1] + b',"more":1}', b"[]", b"{}", b"", b"\xff"):
        with pytest.raises(FormatError):
            Notice.parse(other)


@pytest.mark.parametrize(
    ("size", "block"),
    [
        (1, MIB),
        (256 * MIB - 1, MIB),
        (256 * MIB, 2 * MIB),
        (32 << 30, 2 * MIB),
        ((32 << 30) + 2 * MIB, 4 * MIB),
        (1 << 40, 64 * MIB),
        (MAX_SIZE, 512 * MIB),
    ],
)
def test_blocks_grow_with_the_package_and_by_no_other_rule(size, block):
    assert block_bytes_for(size) == block
    plan = Plan.of(body=4096, size=max(size, 8192), block_bytes=block)
    assert len(plan.blocks) <= MAX_BLOCKS // 2 + 1
    assert sum(length for _, length in plan.blocks) == max(size, 8192) - 4096
    assert all(length == block for _, length in plan.blocks[:-1])


def test_the_longest_notice_fits_a_letter(cast):
    from counterseal.exchange import letter as letters

    longest = notice_of((32 << 30) + 2 * MIB - 1, body=layout.MAX_BODY, file="a" * 128)
    count = len(longest.names())
    assert count == MAX_BLOCKS // 2 + 2
    body = canonical.encode(longest)
    assert Notice.parse(body) == longest
    _, data = letters.write("shipment", body, by=cast.lab, to=cast.clinic.history, at=AT)
    assert len(data) < limits.LETTER_BYTES
    read = letters.read(data, by=cast.clinic, sender=cast.lab.history, at=AT)
    assert Notice.parse(read.body) == longest


def test_a_notice_chooses_no_memory():
    for body, size, block in ((1, 1 << 43, MIB), (layout.MAX_BODY, layout.MAX_BODY + 1, 1)):
        with pytest.raises(FormatError, match="more than"):
            Plan.of(body=body, size=size, block_bytes=block)


def test_private_bytes_are_not_shown(package):
    notice, _ = blocks_of(package)
    assert repr(notice) == "<Notice>"


def test_block_is_a_leaf():
    assert BLOCK_BYTES == MIB
