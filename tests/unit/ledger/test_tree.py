import base64
from hashlib import sha256

import pytest

from counterseal.errors import LedgerBroken
from counterseal.ledger import tree

# The eight entries and roots that Certificate Transparency's implementations test with.
ENTRIES = [
    bytes.fromhex(one)
    for one in (
        "", "00", "10", "2021", "3031", "40414243",
        "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [tree.leaf_hash(entry) for entry in ENTRIES]


def mth_of(leaves):
    return lambda start, end: tree.root(leaves[start:end])


def test_known_roots():
    assert [tree.root(LEAVES[: n + 1]).hex() for n in range(8)] == ROOTS
    assert tree.root([]) == tree.EMPTY_ROOT == sha256(b"").digest()


def test_a_known_inclusion_proof():
    """RFC 6962, section 2.1.3: the path of d3 in a tree of seven is [c, g, l]."""
    mth = mth_of(LEAVES[:7])
    assert tree.prove_inclusion(3, 7, mth) == [LEAVES[2], mth(0, 2), mth(4, 7)]


def test_known_consistency_proofs():
    """RFC 6962, section 2.1.3."""
    mth = mth_of(LEAVES[:7])
    assert tree.prove_consistency(3, 7, mth) == [LEAVES[2], LEAVES[3], mth(0, 2), mth(4, 7)]
    assert tree.prove_consistency(4, 7, mth) == [mth(4, 7)]
    assert tree.prove_consistency(6, 7, mth) == [mth(4, 6), LEAVES[6], mth(0, 4)]


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 5), (5, 5)])
def test_nothing_to_prove(old, new):
    mth = mth_of(LEAVES)
    assert tree.prove_consistency(old, new, mth) == []
    roots = {"old_root": tree.root(LEAVES[:old]), "new_root": tree.root(LEAVES[:new])}
    tree.check_consistency([], old=old, new=new, **roots)
    with pytest.raises(LedgerBroken):
        tree.check_consistency([bytes(32)], old=old, new=new, **roots)
    with pytest.raises(LedgerBroken, match="split view"):
        tree.check_consistency([], old=old, new=new, **{**roots, "old_root": bytes(32)})


def test_a_log_does_not_shrink():
    with pytest.raises(LedgerBroken, match="shrunk"):
        tree.check_consistency([], old=2, new=1, old_root=bytes(32), new_root=bytes(32))


def test_a_node_is_not_an_entry():
    inner = LEAVES[0] + LEAVES[1]
    assert tree.leaf_hash(inner) != tree.node_hash(LEAVES[0], LEAVES[1])


@pytest.mark.parametrize("index", [-1, 8, 9])
def test_an_index_that_is_not_there(index):
    with pytest.raises(ValueError):
        tree.prove_inclusion(index, 8, mth_of(LEAVES))
    with pytest.raises(LedgerBroken):
        tree.check_inclusion([], index=index, size=8, leaf=LEAVES[0], root=bytes(32))


def test_a_proof_leads_forwards():
    with pytest.raises(ValueError):
        tree.prove_consistency(3, 2, mth_of(LEAVES))


def test_proofs_of_another_length_are_refused():
    root, mth = tree.root(LEAVES[:5]), mth_of(LEAVES[:5])
    path = tree.prove_inclusion(2, 5, mth)
    for wrong in (path[:-1], [*path, bytes(32)], []):
        with pytest.raises(LedgerBroken):
            tree.check_inclusion(wrong, index=2, size=5, leaf=LEAVES[2], root=root)
    proof = tree.prove_consistency(3, 5, mth)
    for wrong in (proof[:-1], [*proof, bytes(32)], []):
        with pytest.raises(LedgerBroken):
            tree.check_consistency(
                wrong, old=3, new=5, old_root=tree.root(LEAVES[:3]), new_root=root
            )


def test_roots_as_written_in_a_checkpoint():
    assert len(base64.b64encode(tree.EMPTY_ROOT)) == 44
