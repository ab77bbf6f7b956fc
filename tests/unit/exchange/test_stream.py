import io
import os

import pytest
from workshop import AT

from counterseal.crypto.digest import LEAF_BYTES
from counterseal.errors import FormatError
from counterseal.exchange.stream import copy_range
from counterseal.jobs.seal import seal


@pytest.mark.parametrize("size", [0, 1, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 2 * LEAF_BYTES])
@pytest.mark.parametrize("statement", [False, True])
def test_a_stream_of_unknown_length(bench, size, statement):
    data, seen = os.urandom(size), []
    # A seeded beginning could look like an archive: a stream that does is refused.
    data = b"w" * min(4, size) + data[4:]
    out = bench.path(".sealed")
    receipt = seal(
        io.BytesIO(data), by=bench.lab, to=bench.cast.partner(bench.clinic), output=out, at=AT,
        statement=statement, progress=lambda *now: seen.append(now),
    )  # fmt: skip
    assert receipt.bytes == size
    assert bench.read(out) == {"model": data}
    assert seen[-1] == (size, 0)
    assert [p.name for p in bench.folder.iterdir()] == [out.name]


def test_it_is_the_same_as_a_file_of_that_name(bench):
    data = os.urandom(LEAF_BYTES + 9)
    source = bench.folder / "model"
    source.write_bytes(data)
    one, two = bench.path(".sealed"), bench.path(".sealed")
    to = bench.cast.partner(bench.clinic)
    receipts = [
        seal(made, by=bench.lab, to=to, output=out, at=AT, model="m")
        for made, out in ((source, one), (io.BytesIO(data), two))
    ]
    assert receipts[0].digest == receipts[1].digest
    assert receipts[0].package_bytes == receipts[1].package_bytes


def test_an_archive_cannot_be_looked_into_while_it_streams(bench):
    with pytest.raises(FormatError, match="archive"):
        seal(
            io.BytesIO(b"PK\3\4 and more"), by=bench.lab, to=bench.cast.partner(bench.clinic),
            output=bench.path(), at=AT,
        )  # fmt: skip


def test_copy_range(tmp_path):
    data = os.urandom(LEAF_BYTES + 100)
    (tmp_path / "a").write_bytes(data)
    with (tmp_path / "a").open("rb") as source, (tmp_path / "b").open("w+b") as target:
        copy_range(source.fileno(), target.fileno(), LEAF_BYTES + 50, source_at=25, target_at=3)
        assert target.read() == bytes(3) + data[25:-25]
