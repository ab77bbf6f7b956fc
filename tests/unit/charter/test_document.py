"""The document: one form, and nothing in it that is not understood."""

import json
from datetime import timedelta

import msgspec
import pytest
from charters import BEGINS, CLINIC, LAB, a_charter, amended, changed

from counterseal.charter import document
from counterseal.charter.document import parse
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import FormatError
from counterseal.wire import canonical, limits


def written(**changes):
    """The charter as JSON with fields replaced by path, whether or not they fit."""
    raw = json.loads(canonical.encode(a_charter()))
    for path, value in changes.items():
        *outer, name = path.split("__")
        place = raw
        for one in outer:
            place = place[int(one) if one.isdigit() else one]
        if value is ...:
            del place[name]
        else:
            place[name] = value
    import rfc8785

    return rfc8785.dumps(raw)


def test_what_is_written_is_read():
    charter = a_charter()
    assert parse(canonical.encode(charter)) == charter
    assert written() == canonical.encode(charter)


def test_the_digest_is_of_the_canonical_form_and_says_charter():
    charter = a_charter()
    data = canonical.encode(charter)
    assert charter.digest == sha256(bind("charter", data)).hex()
    assert charter.digest != sha256(data).hex()
    assert amended(charter).previous == charter.digest
    assert amended(charter).digest != charter.digest


def test_assets_are_found_by_name():
    assert a_charter().asset("scan").versions == "~1.4"
    assert a_charter().asset("scans") is None


REFUSED = {
    "a field that is unknown": {"watermark": True},
    "a field that is unknown in a section": {"limits__requests_per_year": 3},
    "a field that is missing": {"exit": ...},
    "a limit that is missing": {"limits__concurrency": ...},
    "an action that is unknown": {"permissions__0__action": "copy"},
    "a unit that is unknown": {"limits__quotas__0__unit": "epsilon"},
    "a role that is unknown": {"partner__roles": ["analyst", "root"]},
    "a proof that is unknown": {"session__proof": "password"},
    "another format": {"format": 2},
    "a fraction": {"limits__rows_per_request": 1.5},
    "a number as text": {"limits__rows_per_request": "256"},
    "no rows at all": {"limits__rows_per_request": 0},
    "no permission at all": {"permissions": []},
    "no purpose at all": {"purpose__allowed": []},
    "a purpose with a quotation mark": {"purpose__allowed": ['diagnosis"']},
    "a purpose with a line break": {"purpose__allowed": ["diagnosis\n"]},
    "a name with a quotation mark": {"assets__0__name": 'scan"'},
    "an identity in capitals": {"partner__identity": "AB" * 32},
    "a set in another order": {"purpose__allowed": ["research", "diagnosis"]},
    "something twice in a set": {"purpose__allowed": ["diagnosis", "diagnosis"]},
    "days in another order": {"limits__hours__0__days": ["mon", "fri"]},
    "a term that ends before it begins": {"ends": "2025-12-31T00:00:00Z"},
    "a time with a zone": {"ends": "2027-01-01T00:00:00+01:00"},
    "a first version with one before": {"previous": "00" * 32},
    "a second version without one before": {"version": 2},
    "a charter with oneself": {"partner__identity": LAB},
    "two assets of one name": {"assets__1__name": "scan"},
    "a purpose both allowed and prohibited": {"purpose__prohibited": ["diagnosis"]},
    "a permission for an asset that is none": {"permissions__0__assets": ["scans"]},
    "a permission for a role that the partner has not": {"permissions__0__roles": ["steward"]},
    "a permission for another purpose": {"permissions__1__purposes": ["teaching"]},
    "two quotas of one unit and period": {
        "limits__quotas": [{"unit": "rows", "count": n, "period": "day"} for n in (1, 2)]
    },
    "hours over midnight": {"limits__hours__0__begin": 1300},
    "a network that has a host": {"limits__networks": ["192.0.2.7/24"]},
    "a network in another spelling": {"limits__networks": ["2001:DB8::/32"]},
    "a ladder that falls": {"monitoring__ladder__1__at": 10},
    "a ladder that goes back": {"monitoring__ladder__3__do": "flag"},
    "a rule for versions that is none": {"assets__0__versions": "latest"},
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    with pytest.raises(FormatError) as caught:
        parse(written(**REFUSED[what]))
    assert "charter" in caught.value.message or "sorted" in caught.value.message


def test_another_spelling_is_refused():
    data = canonical.encode(a_charter())
    for other in (b" " + data, data.replace(b'"format":1', b'"format":1.0'), data + b"\n"):
        with pytest.raises(FormatError):
            parse(other)


def test_a_charter_has_a_size():
    with pytest.raises(FormatError, match="longer"):
        parse(b" " * (limits.CHARTER_BYTES + 1))


def test_a_change_that_does_not_fit_is_no_charter():
    for change in (
        {"ends": BEGINS},
        {"begins": BEGINS + timedelta(microseconds=1)},
        {"owner": {"identity": CLINIC}},
        {"partner": {"roles": ("auditor",)}},
    ):
        with pytest.raises(ValueError):
            a_charter(**change)


def test_the_model_is_frozen():
    with pytest.raises(AttributeError):
        a_charter().limits.rows_per_request = 10**9
    assert changed(a_charter().limits, concurrency=1).concurrency == 1
    assert all(
        issubclass(one, canonical.Message)
        for one in vars(document).values()
        if isinstance(one, type) and issubclass(one, msgspec.Struct)
    )
