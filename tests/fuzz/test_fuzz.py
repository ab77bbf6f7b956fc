"""A short run of each fuzzer and of the mutation campaign; the long runs are commands (see there)."""

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from workshop import Cut

HERE = Path(__file__).parent


def by_path(name):
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


run, targets, mutate = by_path("run"), by_path("targets"), by_path("mutate")


@pytest.mark.parametrize("name", targets.TARGETS)
def test_an_honest_input_is_read(name):
    """Else the fuzzer would only ever see the first check."""
    for seed in targets.seeds()[name]:
        targets.TARGETS[name](seed)


@pytest.fixture(scope="module")
def fuzzed():
    pytest.importorskip("atheris")
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda name: run.fuzz(name, 1), targets.TARGETS)
        return {result.target: result for result in results}


@pytest.mark.parametrize("name", targets.TARGETS)
def test_only_our_errors_come_out(name, fuzzed):
    result = fuzzed[name]
    assert result.ok, result.output[-4000:]
    assert result.runs > 20, result.output[-4000:]


def test_no_mutant_is_accepted():
    report = mutate.campaign(10_000, seed=20261121, stop_after=60)
    assert not [one[:3] for one in report["bad"]]
    assert report["count"] == 10_000
    assert len(report["kinds"]) == len(mutate.KINDS)


CUTS = {
    "the leaf digest": Cut(
        "counterseal.exchange.reader:open_leaf", "not equal(leaf_digest(plain), digest)", "False"
    ),
    "the zeros before the body": Cut(
        "counterseal.exchange.reader:read_front",
        r"part(lengths.end, header.body - lengths.end) != bytes(header.body - lengths.end)",
        "False",
    ),
    "the digest of the stanzas": Cut(
        "counterseal.exchange.reader:Front._check_signature",
        "not equal(sha256(self.stanzas).hex().encode(), self.header.stanzas.encode())",
        "False",
    ),
    "the digest of the manifest": Cut(
        "counterseal.exchange.reader:PackageFiles._open_manifest",
        "not equal(sha256(sealed).hex().encode(), core.manifest.encode())",
        "False",
    ),
    "the canonical form": Cut("counterseal.wire.canonical:decode", "again != data", "False"),
    "the length of the file": Cut(
        "counterseal.exchange.reader:read_front", "header.size != size", "False"
    ),
    "the signature": Cut(
        "counterseal.exchange.reader:Front._check_signature",
        "signed.verify(self.envelope, PACKAGE_TYPE, by=card().card.signing.key())",
    ),
}


@pytest.mark.parametrize("missing", CUTS)
def test_the_campaign_notices_when_a_check_is_missing(missing, monkeypatch):
    """The control: without any one of these, mutants are accepted."""
    CUTS[missing].apply(monkeypatch)
    report = mutate.campaign(3000, seed=3)
    assert any(one[2] == "accepted" for one in report["bad"])
