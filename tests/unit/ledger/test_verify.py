import pytest
from ledgers import KEYS, SECONDS, SIGNER, fetch_of, files_of, log_of, shown, some
from workshop import AT

from counterseal.errors import CountersealError, LedgerBroken, RolledBack
from counterseal.ledger import entry as entries
from counterseal.ledger import tree
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.entry import Record
from counterseal.ledger.proof import prove
from counterseal.ledger.reader import TileReader, fetch_bounded
from counterseal.ledger.tiles import CHECKPOINT
from counterseal.ledger.verify import verify


def real(count):
    record = Record(event="note", actor="1" * 64)
    return [
        entries.encode(entries.make(record, id=n.to_bytes(16, "big"), key=bytes(32), at=AT))
        for n in range(count)
    ]


SIZE = 600
FILES = shown(some(SIZE))


def check(files, **more):
    return verify(fetch_of(files), KEYS, read=False, **more)


def test_what_an_owner_shows_is_what_a_log_has():
    assert files_of(log_of(some(SIZE)).read, SIZE).keys() == FILES.keys()
    assert check(FILES).checkpoint.size == SIZE


def test_entries_of_another_form_are_refused_unless_they_may_be_any():
    good = shown([*real(300)])
    assert verify(fetch_of(good), KEYS).checkpoint.size == 300
    bad = shown([*real(299), b"{}"])
    with pytest.raises(LedgerBroken, match="entry 299 cannot be read"):
        verify(fetch_of(bad), KEYS)
    check(bad)


@pytest.mark.parametrize("path", FILES)
def test_every_file_is_needed_and_needed_as_it_is(path):
    without = {key: data for key, data in FILES.items() if key != path}
    with pytest.raises(LedgerBroken, match="missing"):
        check(without)
    data = FILES[path]
    for changed in (
        data[:-1],
        data + b"\0",
        b"",
        bytes([data[0] ^ 1]) + data[1:],
        data[:-1] + bytes([data[-1] ^ 0x40]),
        bytes(200_000) + data,
    ):
        with pytest.raises(CountersealError):
            check({**FILES, path: changed})


def test_a_full_tile_stands_in_for_a_partial_one():
    """A log may drop a partial tile once it is full."""
    later = shown(some(1000))
    files = {path: data for path, data in later.items() if ".p/" not in path}
    small = {path: data for path, data in FILES.items() if path.startswith(("tile/1", CHECKPOINT))}
    assert check({**files, **small}).checkpoint.size == SIZE


def test_it_goes_on_from_an_earlier_one():
    for size in (0, 1, 255, 256, 257, 599, 600):
        earlier = KEYS.open(shown(some(size))[CHECKPOINT]).checkpoint
        check(FILES, earlier=earlier)
        if size:
            other = KEYS.open(shown(some(size, 1))[CHECKPOINT]).checkpoint
            with pytest.raises(LedgerBroken, match="split view"):
                check(FILES, earlier=other)
    with pytest.raises(RolledBack):
        check(FILES, earlier=KEYS.open(shown(some(601))[CHECKPOINT]).checkpoint)
    with pytest.raises(LedgerBroken, match="of another log"):
        check(FILES, earlier=Checkpoint("example.com/other", 0, tree.EMPTY_ROOT))


def test_entries_that_we_have():
    check(FILES, having={0: b"entry 0", 599: b"entry 599"})
    with pytest.raises(LedgerBroken, match="altered entry: 5 "):
        check(FILES, having={5: b"entry 6"})
    with pytest.raises(LedgerBroken, match="missing entry: 600"):
        check(FILES, having={0: b"entry 0", 600: b"entry 600"})


def test_progress_is_told():
    told = []
    check(FILES, progress=lambda done, total: told.append((done, total)))
    assert told == [(256, 600), (512, 600), (600, 600)]


def test_a_size_that_nobody_has_the_tiles_for_costs_nothing():
    huge = {CHECKPOINT: shown([])[CHECKPOINT]}
    made = Checkpoint(KEYS.origin, (1 << 63) - 1, bytes(32))
    huge[CHECKPOINT] = SIGNER.sign(made, time=SECONDS)
    with pytest.raises(LedgerBroken, match="missing"):
        check(huge)


def test_ranges_and_entries():
    reader = TileReader(fetch_of(FILES), check(FILES).checkpoint)
    leaves = [tree.leaf_hash(entry) for entry in some(SIZE)]
    for start, end in (
        (0, 600),
        (0, 256),
        (256, 512),
        (0, 512),
        (512, 600),
        (512, 514),
        (599, 600),
    ):
        assert reader.root_of(start, end) == tree.root(leaves[start:end])
    for start, end in ((0, 601), (3, 3), (-1, 2)):
        with pytest.raises(ValueError):
            reader.root_of(start, end)
    assert reader.entry(300) == b"entry 300"
    assert list(reader.bundles(250, 520)) == [
        (250, some(6, 250)), (256, some(256, 256)), (512, some(8, 512))
    ]  # fmt: skip


def test_tiles_are_kept_within_bounds():
    size = 256 * 40
    reader = TileReader(
        fetch_of(shown(some(size))), KEYS.open(shown(some(size))["checkpoint"]).checkpoint
    )
    for _ in reader.bundles(0, size):
        pass
    assert len(reader._kept) <= 33


def test_what_is_fetched_is_bounded():
    with pytest.raises(LedgerBroken, match="longer than it can be"):
        fetch_bounded(lambda _: bytes(8193), "tile/0/000")


def test_a_proof_by_tiles_is_the_proof_of_the_tree():
    seen = check(FILES)
    leaves = [tree.leaf_hash(entry) for entry in some(SIZE)]
    for index in (0, 255, 256, 599):
        made = prove(fetch_of(FILES), seen, index)
        expected = tree.prove_inclusion(index, SIZE, lambda a, b: tree.root(leaves[a:b]))
        assert list(made.hashes) == expected
