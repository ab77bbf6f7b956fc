"""The export: one charter, one ODRL agreement, and nothing of it forgotten."""

import json
from datetime import timedelta

import msgspec
import pytest
import rfc8785
from charters import OTHER_DIGEST, RIVAL, a_charter, amended

from counterseal.charter.odrl import NOT_EXPORTED, PROFILE, export

CHARTER = a_charter(output={"noise_permille": 100})
DAY = timedelta(days=1)

# What ODRL 2.2 defines, of what the export uses without a prefix.
CORE = {
    "@context", "@type", "@value", "@list", "uid", "profile", "assigner", "assignee", "permission",
    "prohibition", "obligation", "target", "action", "constraint", "leftOperand", "operator",
    "rightOperand", "unit", "and", "or", "informedParty",
}  # fmt: skip
OPERATORS = {"eq", "gt", "gteq", "lt", "lteq", "neq", "isAnyOf"}
OPERANDS = {"purpose", "dateTime", "count", "elapsedTime"}
ACTIONS = {"use", "delete", "inform"}


def leaves(value, path=()):
    """Every field of a charter that is not a section: where it is."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from leaves(getattr(value, name), (*path, name))
    elif isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
        yield from leaves(value[0], (*path, 0))
    else:
        yield path


# For fields that cannot be changed by themselves, or whose values are words that are few.
OTHER = {
    "permissions.0.action": "embed",
    "permissions.0.assets": ("scan",),
    "permissions.0.purposes": ("diagnosis",),
    "permissions.0.roles": ("analyst", "auditor"),
    "permissions.1.purposes": None,
    "limits.quotas.0.unit": "tokens",
    "limits.quotas.0.period": "hour",
    "limits.hours.0.days": ("mon",),
    "limits.networks": None,
    "assets.0.versions": "*",
    "partner.roles": ("analyst", "auditor", "steward"),
    "purpose.allowed": ("diagnosis", "research", "teaching"),
    "monitoring.detectors.0.name": "similarity",
    "monitoring.ladder.0.at": 41,
    "monitoring.ladder.0.do": "tighten",
    "data.payload_log": "sealed",
    "audit.durability": "group",
    "audit.readers": ("owner",),
    "incident.severities.0.level": "high",
    "exit.triggers": ("law",),
    "exit.shred": ("outputs",),
    "exit.outputs": "owner",
    "assets.0.digests": (OTHER_DIGEST,),
    "language": "de",
    "previous": OTHER_DIGEST,
}


def another(value, path):
    if path in OTHER:
        return OTHER[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return RIVAL if len(value) == 64 else value + "x"
    if isinstance(value, tuple):
        return (*value, "x")
    return value + DAY  # a time


def put(value, path, new):
    """A copy with one leaf replaced."""
    name, *rest = path
    if rest:
        inner = value[name] if isinstance(name, int) else getattr(value, name)
        new = put(inner, rest, new)
    if isinstance(name, int):
        return (*value[:name], new, *value[name + 1 :])
    return msgspec.structs.replace(value, **{name: new})


def renamed(charter, path):
    """An asset has its name in permissions, too."""
    name = charter.assets[0].name + "x"
    charter = msgspec.structs.replace(
        charter,
        assets=(msgspec.structs.replace(charter.assets[0], name=name), *charter.assets[1:]),
        permissions=tuple(
            msgspec.structs.replace(
                one, assets=tuple(name if x == charter.assets[0].name else x for x in one.assets)
            )
            for one in charter.permissions
        ),
    )
    assert path == "assets.0.name"
    return charter


def without_digest(exported):
    """`cs:digest` changes with everything, and would hide what is forgotten."""
    return {name: value for name, value in exported.items() if name != "cs:digest"}


CHANGED = [
    ".".join(map(str, path))
    for path in leaves(CHARTER)
    if ".".join(map(str, path)) not in dict(NOT_EXPORTED)
]


@pytest.mark.parametrize("path", CHANGED)
def test_no_field_is_forgotten(path):
    base = amended(CHARTER)
    steps = [int(part) if part.isdigit() else part for part in path.split(".")]
    if path == "assets.0.name":
        changed = renamed(base, path)
    else:
        value = base
        for step in steps:
            value = value[step] if isinstance(step, int) else getattr(value, step)
        changed = put(base, steps, another(value, path))
    assert changed != base
    assert without_digest(export(changed)) != without_digest(export(base))


def test_what_is_not_exported_is_a_field_and_has_a_reason():
    names = CHARTER.__struct_fields__
    assert all(name in names and reason for name, reason in NOT_EXPORTED)
    assert len(CHANGED) > 60


def test_equal_charters_give_equal_exports():
    assert rfc8785.dumps(export(a_charter())) == rfc8785.dumps(export(a_charter()))
    assert json.loads(json.dumps(export(CHARTER))) == export(CHARTER)


def test_it_is_an_agreement_of_odrl_2_2():
    agreement = export(CHARTER)
    assert agreement["@context"][0] == "http://www.w3.org/ns/odrl.jsonld"
    assert agreement["@type"] == "Agreement"
    assert agreement["profile"] == PROFILE
    assert agreement["cs:digest"] == CHARTER.digest
    assert agreement["assigner"]["uid"].endswith(CHARTER.owner.identity)
    assert agreement["assignee"]["uid"].endswith(CHARTER.partner.identity)
    assert [one["action"] for one in agreement["permission"]] == ["cs:predict", "cs:explain"]
    assert all(one["target"] and one["constraint"] for one in agreement["permission"])


def test_every_word_is_odrl_or_has_a_prefix():
    prefixes = set(export(CHARTER)["@context"][1])

    def walk(value):
        if isinstance(value, dict):
            for name, inner in value.items():
                assert name in CORE or name.partition(":")[0] in prefixes, name
                for key, known in (
                    ("operator", OPERATORS),
                    ("leftOperand", OPERANDS),
                    ("action", ACTIONS),
                ):
                    if name == key:
                        assert inner in known or inner.startswith("cs:"), inner
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk({name: value for name, value in export(CHARTER).items() if name != "@context"})


def test_what_is_absent_is_absent():
    bare = a_charter(
        purpose={"prohibited": ()},
        limits={"rate": None, "hours": None, "networks": None, "quotas": ()},
        output={"top": None, "decimals": None, "noise_permille": None},
        data={"train_on_inputs": True},
        monitoring={"detectors": (), "ladder": ()},
        compliance=(),
    )
    agreement = export(bare)
    assert agreement["prohibition"] == []
    assert "cs:limitOutput" not in [one["action"] for one in agreement["obligation"]]
    assert not any("or" in one for one in agreement["permission"][0]["constraint"])


def test_the_owner_runs_the_models_and_has_the_duties():
    for one in export(CHARTER)["obligation"]:
        assert one["assignee"].endswith(CHARTER.owner.identity)


def test_a_prohibited_purpose_is_a_prohibition():
    first, second = export(CHARTER)["prohibition"]
    assert first["constraint"][0]["rightOperand"] == ["advertising", "credit-scoring"]
    assert second["action"] == "cs:train"
