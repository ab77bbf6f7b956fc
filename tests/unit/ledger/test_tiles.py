import pytest
from ledgers import some

from counterseal.errors import FormatError, LedgerBroken
from counterseal.ledger.edge import Edge, cut_bundle
from counterseal.ledger.tiles import (
    CHECKPOINT,
    ENTRIES,
    KEY,
    Tile,
    bundle,
    edge_of,
    hashes_of,
    limit_of,
    tiles_of,
    unbundle,
)
from counterseal.ledger.tree import leaf_hash, root

PATHS = {
    "tile/0/000": Tile(0, 0),
    "tile/3/x001/x234/067": Tile(3, 1234067),
    "tile/entries/x001/000.p/1": Tile(ENTRIES, 1000, 1),
    "tile/63/999.p/255": Tile(63, 999, 255),
}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_the_one_of_its_tile(path):
    assert PATHS[path].path == path
    assert Tile.parse(path) == PATHS[path]


@pytest.mark.parametrize(
    "path",
    [
        "tile/00/000", "tile/64/000", "tile/-1/000", "tile/0/0", "tile/0/0000", "tile/0/x000/001",
        "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/001/002", "tile/0/000/",
        "tile/8/data/000", "tile/0/../checkpoint", "tile/0/000\n", "private/keys", "", "tile/0/x001",
    ],
)  # fmt: skip
def test_no_other_path_is_a_tile(path):
    with pytest.raises(FormatError):
        Tile.parse(path)


def test_the_example_of_the_specification():
    """tlog-tiles, "Partial Tiles": 70,000 entries, and 256."""
    tiles = [tile for tile in tiles_of(70_000) if tile.level >= 0]
    count = {(t.level, t.width) for t in tiles}
    assert count == {(0, 256), (0, 112), (1, 256), (1, 17), (2, 1)}
    assert sum(t.level == 0 and t.width == 256 for t in tiles) == 273
    assert edge_of(70_000) == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert [t.path for t in tiles_of(256)] == [
        "tile/entries/000", "tile/0/000", "tile/1/000.p/1"
    ]  # fmt: skip
    assert list(tiles_of(0)) == []


def test_bundles():
    entries = [b"", b"one", bytes(65_535)]
    data = bundle(entries)
    assert data[:7] == b"\0\0\0\x03one"
    assert unbundle(data, tile=Tile(ENTRIES, 0, 3)) == entries
    assert cut_bundle(data, Tile(ENTRIES, 0, 3), 2) == data[:7]
    for wrong, width in ((data, 2), (data, 4), (data[:-1], 3), (data + b"\0", 3), (b"", 1)):
        with pytest.raises(LedgerBroken, match="missing entry"):
            unbundle(wrong, tile=Tile(ENTRIES, 0, width))
    with pytest.raises(LedgerBroken):
        cut_bundle(data, Tile(ENTRIES, 0, 3), 4)


def test_a_tile_has_its_length():
    assert hashes_of(bytes(64), tile=Tile(0, 0, 2)) == [bytes(32)] * 2
    for wrong in (bytes(63), bytes(96), b""):
        with pytest.raises(LedgerBroken):
            hashes_of(wrong, tile=Tile(0, 0, 2))


def test_how_long_anything_may_be():
    assert limit_of("tile/0/000") == 8192
    assert limit_of("tile/2/000.p/3") == 96
    assert limit_of("tile/entries/000.p/2") == 2 * 65_537
    assert limit_of(CHECKPOINT) < 200_000
    assert limit_of(KEY) < 100_000
    with pytest.raises(FormatError):
        limit_of("../etc/passwd")


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 1000, 65_535, 65_536, 65_537])
def test_an_edge_is_the_tree(size):
    entries = some(size)
    edge = Edge()
    full = dict(edge.append(entries))
    assert edge.root() == root([leaf_hash(entry) for entry in entries])
    for tile in tiles_of(size):
        data = full[tile.path] if tile.width == 256 else edge.cut(tile)
        if tile.level == ENTRIES:
            assert unbundle(data, tile=tile) == entries[tile.index * 256 :][: tile.width]
        else:
            assert len(hashes_of(data, tile=tile)) == tile.width
    again = Edge.restore(size, bytes(edge.bundle), lambda tile: full[tile.path])
    assert (again.size, again.root(), again.bundle) == (edge.size, edge.root(), edge.bundle)
    again.append(some(300, size))
    assert again.root() == root([leaf_hash(entry) for entry in some(size + 300)])


def test_a_copy_is_another_edge():
    edge = Edge()
    edge.append(some(3))
    before = edge.root()
    edge.copy().append(some(300))
    assert (edge.size, edge.root()) == (3, before)


def test_an_edge_cuts_only_what_it_has():
    edge = Edge()
    edge.append(some(300))
    assert edge.cut(Tile(0, 1, 44)) is not None
    assert edge.cut(Tile(0, 1, 45)) is None
    assert edge.cut(Tile(0, 0, 5)) is None
    assert edge.cut(Tile(2, 0, 1)) is None
