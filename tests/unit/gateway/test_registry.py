"""Versions that never change, names for them, and what a charter covers of it."""

from types import SimpleNamespace

import pytest
from charters import a_charter

from counterseal.charter.document import Asset, Permission
from counterseal.crypto.digest import sha256
from counterseal.errors import FormatError, TamperError
from counterseal.gateway import registry as registries
from counterseal.gateway.refusals import NotServedError
from counterseal.gateway.registry import Canary, Registry
from counterseal.gateway.state import MemoryState
from counterseal.gateway.vault import Vault

BACKEND = SimpleNamespace(
    platform="test", inputs=(), outputs=(), predict=lambda inputs: {}
)  # fmt: skip


def digest(number):
    return f"{number:02x}" * 32


@pytest.fixture
def vault():
    return Vault(MemoryState(), protect=lambda s, label: s, unprotect=lambda h, label: h)


@pytest.fixture
def registry(vault):
    made = Registry(vault)
    for number, version in enumerate(("1.4.0", "1.4.1", "1.5.0", "2.0.0")):
        made.add("scan", version, digest(number), BACKEND)
    made.refresh()
    return made


def charter_with(versions="~1.4", digests=None):
    return a_charter(
        id=sha256(f"{versions}{digests}".encode())[:16].hex(),
        assets=(Asset(name="scan", versions=versions, digests=digests),),
        permissions=(PERMISSION,),
    )


PERMISSION = Permission(action="predict", assets=("scan",), roles=("analyst",), purposes=None)
CHARTER = charter_with()


def chosen(registry, wanted=None, *, charter=CHARTER, lot=999):
    return registry.choose("scan", wanted, charter=charter, lot=lot).number


def test_the_newest_that_the_charter_covers_is_chosen(registry):
    assert chosen(registry) == "1.4.1"
    assert chosen(registry, charter=charter_with("*")) == "2.0.0"
    assert chosen(registry, charter=charter_with(">=1.4,<2")) == "1.5.0"


def test_a_wish_is_for_a_version_or_an_alias(registry, vault):
    registries.point(vault, "scan", "stable", "1.4.0")
    registry.refresh()
    assert chosen(registry, "1.4.0") == "1.4.0"
    assert chosen(registry, "stable") == "1.4.0"


@pytest.mark.parametrize("wanted", ["2.0.0", "9.9.9", "next", "", "../x"])
def test_what_the_charter_does_not_cover_looks_as_if_it_were_not_there(registry, vault, wanted):
    registries.point(vault, "scan", "next", "2.0.0")
    registry.refresh()
    with pytest.raises(NotServedError, match="no version"):
        chosen(registry, wanted)


def test_a_default_beyond_the_charter_is_not_for_it(registry, vault):
    registries.point(vault, "scan", "default", "2.0.0")
    registry.refresh()
    assert chosen(registry) == "1.4.1"
    assert chosen(registry, charter=charter_with("*")) == "2.0.0"


def test_other_files_under_a_covered_number_are_not_covered(registry):
    only = charter_with("*", digests=(digest(0),))
    assert [*registry.covered("scan", only)] == ["1.4.0"]
    assert chosen(registry, charter=only) == "1.4.0"


def test_a_model_outside_of_the_charter_is_not_served(registry):
    registry.add("other", "1.0.0", digest(9), BACKEND)
    for name in ("other", "nothing"):
        with pytest.raises(NotServedError, match="no model"):
            registry.choose(name, None, charter=CHARTER, lot=0)


def test_a_version_never_changes(registry, vault):
    registry.add("scan", "1.4.0", digest(0), BACKEND)
    with pytest.raises(TamperError, match="was another model"):
        Registry(vault).add("scan", "1.4.0", digest(7), BACKEND)
    with pytest.raises(TamperError):
        Registry(vault).add("scan", "1.4", digest(7), BACKEND)


@pytest.mark.parametrize("number", ["", "one", "1.2.3.4", "-1", "01"])
def test_a_version_is_three_numbers(vault, number):
    with pytest.raises(FormatError):
        Registry(vault).add("scan", number, digest(0), BACKEND)


def test_an_alias_goes_back_to_where_it_pointed(registry, vault):
    for number in ("1.4.0", "1.4.1", "1.5.0"):
        registries.point(vault, "scan", "default", number)
    assert registries.roll_back(vault, "scan").version == "1.4.1"
    assert registries.roll_back(vault, "scan").version == "1.4.0"
    with pytest.raises(NotServedError, match="never pointed elsewhere"):
        registries.roll_back(vault, "scan")


def test_an_alias_points_to_what_was_served(vault, registry):
    with pytest.raises(NotServedError, match="ever served"):
        registries.point(vault, "scan", "default", "3.0.0")


def test_a_canary_gets_its_share_of_the_sessions(registry, vault):
    canary = Canary(
        kind="canary", format=1, model="scan", version="1.4.0", permille=250, shadow=False
    )
    registries.try_out(vault, canary, "scan")
    registry.refresh()
    lots = [chosen(registry, lot=lot) for lot in range(1000)]
    assert lots.count("1.4.0") == 250
    assert lots.count("1.4.1") == 750
    registries.try_out(vault, None, "scan")
    registry.refresh()
    assert chosen(registry, lot=0) == "1.4.1"


def test_a_canary_beyond_the_charter_is_not_for_it(registry, vault):
    canary = Canary(
        kind="canary", format=1, model="scan", version="2.0.0", permille=1000, shadow=False
    )
    registries.try_out(vault, canary, "scan")
    registry.refresh()
    assert chosen(registry, lot=0) == "1.4.1"


def test_a_shadow_answers_nobody_and_sees_what_others_answer(registry, vault):
    shadow = Canary(
        kind="canary", format=1, model="scan", version="1.4.0", permille=1000, shadow=True
    )
    registries.try_out(vault, shadow, "scan")
    registry.refresh()
    offer = registry.choose("scan", None, charter=CHARTER, lot=0)
    assert offer.number == "1.4.1"
    assert registry.shadow_of(offer).number == "1.4.0"
    assert registry.shadow_of(registry.choose("scan", "1.4.0", charter=CHARTER, lot=0)) is None


def test_many_wishes_fill_no_memory(registry):
    for number in range(5000):
        with pytest.raises(NotServedError):
            chosen(registry, f"v{number}")
    for lot in range(5000):
        chosen(registry, lot=lot)
    assert len(registry._chosen) <= 4096
