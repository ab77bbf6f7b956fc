"""A charter as Cedar: what the policies say, and how words get into them."""

import dataclasses
import string

import cedarpy
import msgspec
import pytest
from charters import AT, CLINIC, a_charter, a_request, a_usage, amended

from counterseal.charter import conditions, document
from counterseal.charter.clauses import clauses_of, words_of
from counterseal.charter.conditions import ENTITIES, AnyOf, Equal, Facts, cedar, literal
from counterseal.charter.policy import context_of, policies, schema
from counterseal.charter.request import facts_of

HOSTILE = (
    '"',
    '" || true || "',
    '\\" || true || \\"',
    "\\",
    "\\u{22}",
    "\n// a comment",
    "\r\n",
    "\0",
    "*",
    "${context}",
    "?principal",
    "'",
    "/* */",
    "\u2028",
    "\u202e",
    "é",
    "\U0001f512",
    string.printable,
)


def asked(text, value):
    """Does `text`, as the only policy, allow the purpose `value`?"""
    facts = facts_of(a_request(purpose=value, session_purpose=value), a_usage(), at=AT)
    context = {name: getattr(facts, name) for name in context_of(a_charter())}
    request = {
        "principal": {"type": "Party", "id": CLINIC},
        "action": {"type": "Action", "id": "predict"},
        "resource": {"type": "Asset", "id": "scan"},
        "context": context,
    }
    result = cedarpy.is_authorized(request, text, [], schema(a_charter()))
    assert not result.diagnostics.errors
    return result.allowed


@pytest.mark.parametrize("word", HOSTILE)
def test_a_word_is_a_word(word):
    text = f"permit (principal, action, resource) when {{ {cedar(Equal('purpose', word))} }};"
    assert asked(text, word)
    assert not asked(text, word + "x")
    assert not asked(text, "diagnosis")
    assert len(cedarpy.PolicySet.from_str(text)) == 1


@pytest.mark.parametrize("word", HOSTILE)
def test_a_literal_is_one_token_of_plain_letters(word):
    text = literal(word)
    assert text.isascii()
    assert text.isprintable()
    assert text[1:-1].count('"') == 0


def test_half_a_character_has_no_literal():
    with pytest.raises(ValueError, match="surrogate"):
        literal("\ud800")


def test_hostile_words_in_every_field_make_no_second_policy():
    """As if the patterns of the document did not exist."""
    for word in HOSTILE:
        charter = a_charter(
            id=word,
            partner={"name": word, "identity": word, "roles": (word,)},
            assets=(document.Asset(name=word, versions="*", digests=(word,)),),
            purpose={"allowed": (word,), "prohibited": (word + "!",)},
            permissions=(
                document.Permission(
                    action="predict", assets=(word,), roles=(word,), purposes=(word,)
                ),
            ),
        )
        parsed = cedarpy.PolicySet.from_str(policies(charter))
        assert len(parsed) == 1
        assert cedarpy.validate_policies(policies(charter), schema(charter)).validation_passed


def test_every_policy_permits_and_has_an_id():
    charter = amended(a_charter())
    text = policies(charter)
    assert text.count("permit (") == text.count("@id(") == len(charter.permissions)
    assert "forbid" not in text
    assert [grant.id for grant in clauses_of(charter).grants] == [
        f"{charter.id}/v2/0/predict/analyst",
        f"{charter.id}/v2/1/explain/analyst+auditor",
    ]


def test_every_limit_is_a_condition_of_every_policy():
    text = policies(a_charter())
    for one in clauses_of(a_charter()).always:
        assert text.count(f"when {{ {cedar(one.condition)} }}") == 2


def test_equal_charters_have_equal_policies():
    assert policies(a_charter()) == policies(a_charter())
    assert policies(a_charter()) != policies(amended(a_charter()))


def test_a_misspelt_fact_does_not_validate():
    text = policies(a_charter()).replace("context.rows", "context.rowz")
    assert not cedarpy.validate_policies(text, schema(a_charter())).validation_passed


def test_the_schema_has_every_fact_but_amounts_without_a_quota():
    context = set(context_of(a_charter()))
    left_out = set(Facts.__struct_fields__) - context - set(ENTITIES)
    assert all(name.startswith("used_") for name in left_out)
    assert {"used_requests_day", "used_rows_month"} <= context
    everything = {
        f"used_{unit}_{period}"
        for unit in ("requests", "rows", "tokens")
        for period in ("hour", "day", "month", "term")
    }
    assert everything == {one for one in Facts.__struct_fields__ if one.startswith("used_")}

    assert all(field.required for field in msgspec.structs.fields(Facts))


def test_any_of_nothing_is_never():
    assert cedar(AnyOf(())) == "false"
    assert cedar(conditions.OneOf("purpose", ())) == "false"
    assert conditions.smt(conditions.OneOf("purpose", ()), lambda _: 1) == "false"


def test_long_lists_do_not_nest_deeply():
    networks = tuple(sorted(f"2001:db8:{one:x}::/48" for one in range(1, 65)))
    text = cedar(clauses_of(a_charter(limits={"networks": networks})).always[-3].condition)
    deepest = max(text[:n].count("(") - text[:n].count(")") for n in range(len(text)))
    assert text.count("context.address1") >= 64
    assert deepest < 12


WORDS = {
    "192.0.2.7": (0, 0, 0xFFFF, 0xC0000207),
    "::ffff:192.0.2.7": (0, 0, 0xFFFF, 0xC0000207),
    "::192.0.2.7": (0, 0, 0, 0xC0000207),
    "2001:db8::1": (0x20010DB8, 0, 0, 1),
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": (0xFFFFFFFF,) * 4,
}


@pytest.mark.parametrize("address", WORDS)
def test_an_address_is_four_words(address):
    assert words_of(address) == WORDS[address]


@pytest.mark.parametrize(
    "address", ["", "192.0.2", "192.0.2.7/32", "192.0.2.07", "fe80::1%eth0", "localhost", "1"]
)
def test_what_is_no_address(address):
    with pytest.raises(ValueError):
        words_of(address)


def test_a_network_with_a_zone_is_refused():
    with pytest.raises(ValueError, match="not how this network is written"):
        a_charter(limits={"networks": ("fe80::%1/64",)})


def test_each_clause_has_a_place_in_the_charter():
    clauses = clauses_of(a_charter())
    for clause in [*clauses.always, *(one for grant in clauses.grants for one in grant.clauses)]:
        place = a_charter()
        for part in clause.path.split("."):
            name, _, number = part.rstrip("]").partition("[")
            place = getattr(place, name)
            if number:
                place = place[int(number)]
        assert clause.words
        assert dataclasses.is_dataclass(clause)
