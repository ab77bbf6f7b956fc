"""A charter as an ODRL 2.2 Agreement in JSON-LD, for other people's tools (SPEC 16.7).

One way only, and nothing is decided from it: who reads ODRL and does not know the profile must
refuse the agreement, since ODRL alone has no words for rows, risk or versions of a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.charter.document import Asset, Charter, Limits, Party, Permission

__all__ = ["NOT_EXPORTED", "PROFILE", "export"]

Json: TypeAlias = dict[str, Any]

PROFILE: Final = "urn:counterseal:odrl:1"
CONTEXT: Final = (
    "http://www.w3.org/ns/odrl.jsonld",
    {
        "cs": f"{PROFILE}#",
        "dct": "http://purl.org/dc/terms/",
        "xsd": "http://www.w3.org/2001/XMLSchema#",
    },
)
# Every other field changes the export; a test changes each.
NOT_EXPORTED: Final = (
    ("kind", "it is an Agreement"),
    ("format", "the profile has a number of its own"),
)


def export(charter: Charter) -> Json:
    """Equal charters give equal exports; `cs:digest` names the charter that is meant."""
    return {
        "@context": list(CONTEXT),
        "@type": "Agreement",
        "uid": f"urn:counterseal:charter:{charter.id}:{charter.version}",
        "profile": PROFILE,
        "dct:title": charter.title,
        "dct:language": charter.language,
        "dct:created": _time(charter.created),
        "dct:description": charter.purpose.prose,
        "dct:references": [
            {"dct:title": one.name, "dct:source": one.where, "cs:sha256": one.digest}
            for one in charter.compliance
        ],
        "cs:digest": charter.digest,
        "cs:previous": charter.previous,
        "cs:prose": charter.prose,
        "cs:legalBasis": charter.purpose.basis,
        "assigner": _party(charter.owner),
        "assignee": _party(charter.partner),
        "permission": [_permission(charter, one) for one in charter.permissions],
        "prohibition": _prohibitions(charter),
        "obligation": [
            *_output(charter),
            *_data(charter),
            *_watching(charter),
            *_incident(charter),
            _exit(charter),
        ],
    }


def _party(party: Party) -> Json:
    return {
        "@type": "Party",
        "uid": _uid(party),
        "cs:name": party.name,
        "cs:roles": list(party.roles),
        "cs:contact": party.contact,
    }


def _uid(party: Party) -> str:
    return f"urn:counterseal:identity:{party.identity}"


def _target(charter: Charter, asset: Asset) -> Json:
    return {
        "@type": "Asset",
        "uid": f"urn:counterseal:asset:{charter.owner.identity}:{asset.name}",
        "cs:versions": asset.versions,
        "cs:sha256": None if asset.digests is None else list(asset.digests),
    }


def _permission(charter: Charter, permission: Permission) -> Json:
    purposes = permission.purposes or charter.purpose.allowed
    return {
        "target": [
            _target(charter, one) for one in charter.assets if one.name in permission.assets
        ],
        "action": f"cs:{permission.action}",
        "constraint": [
            _constraint("purpose", "isAnyOf", list(charter.purpose.allowed)),
            _constraint("purpose", "isAnyOf", list(purposes)),
            _constraint("cs:role", "isAnyOf", list(permission.roles)),
            _constraint("dateTime", "gteq", _time(charter.begins)),
            _constraint("dateTime", "lt", _time(charter.ends)),
            *_limits(charter.limits),
            *_session(charter),
        ],
    }


def _limits(limits: Limits) -> list[Json]:
    found = [
        _constraint("cs:rowsPerRequest", "lteq", limits.rows_per_request),
        _constraint("cs:bytesPerRequest", "lteq", limits.bytes_per_request),
        _constraint("cs:concurrency", "lteq", limits.concurrency),
    ]
    if limits.rate is not None:
        rate = limits.rate
        value = {"cs:count": rate.count, "cs:seconds": rate.seconds, "cs:burst": rate.burst}
        found.append(_constraint("cs:rate", "lteq", value))
    for quota in limits.quotas:
        one = _constraint("count", "lteq", quota.count)
        found.append({**one, "unit": f"cs:{quota.unit}", "cs:period": quota.period})
    if limits.hours is not None:
        hours = [
            {
                "and": {
                    "@list": [
                        _constraint("cs:weekday", "isAnyOf", list(one.days)),
                        _constraint("cs:minuteOfDay", "gteq", one.begin),
                        _constraint("cs:minuteOfDay", "lt", one.end),
                    ]
                }
            }
            for one in limits.hours
        ]
        found.append({"or": {"@list": hours}})
    if limits.networks is not None:
        found.append(_constraint("cs:network", "isAnyOf", list(limits.networks)))
    return found


def _session(charter: Charter) -> list[Json]:
    session = charter.session
    return [
        _constraint("cs:sessionAge", "lteq", _duration(session.max_seconds)),
        _constraint("cs:sessionIdle", "lteq", _duration(session.idle_seconds)),
        _constraint("cs:proof", "eq", session.proof),
    ]


def _output(charter: Charter) -> list[Json]:
    output = charter.output
    controls = (
        ("cs:top", "lteq", output.top),
        ("cs:decimals", "lteq", output.decimals),
        ("cs:noisePermille", "eq", output.noise_permille),
    )
    kept = [_constraint(*one) for one in controls if one[2] is not None]
    return [_duty(charter, "cs:limitOutput", kept)] if kept else []


def _prohibitions(charter: Charter) -> list[Json]:
    found: list[Json] = []
    if charter.purpose.prohibited:
        found.append(
            {
                "target": [_target(charter, one) for one in charter.assets],
                "action": "use",
                "constraint": [_constraint("purpose", "isAnyOf", list(charter.purpose.prohibited))],
            }
        )
    if not charter.data.train_on_inputs:
        found.append({"assignee": _uid(charter.owner), "target": "cs:inputs", "action": "cs:train"})
    return found


def _data(charter: Charter) -> list[Json]:
    after = _constraint("elapsedTime", "lteq", _duration(charter.data.keep_inputs_days * 86_400))
    logged = _constraint("cs:payload", "eq", charter.data.payload_log)
    return [
        _duty(charter, "delete", [after], target="cs:inputs"),
        _duty(charter, "cs:log", [logged], target="cs:inputs"),
    ]


def _watching(charter: Charter) -> list[Json]:
    detectors = [
        _constraint(f"cs:{one.name}", "lteq", one.threshold_permille)
        for one in charter.monitoring.detectors
    ]
    audit = charter.audit
    return [
        _duty(charter, "cs:monitor", detectors),
        *(
            _duty(charter, f"cs:{rung.do}", [_constraint("cs:risk", "gteq", rung.at)])
            for rung in charter.monitoring.ladder
        ),
        _duty(
            charter,
            "cs:record",
            [
                _constraint("cs:durability", "eq", audit.durability),
                _constraint("cs:reader", "isAnyOf", list(audit.readers)),
                _constraint("cs:checkpoint", "lteq", _duration(audit.checkpoint_seconds)),
            ],
        ),
    ]


def _incident(charter: Charter) -> list[Json]:
    return [
        {
            **_duty(
                charter,
                "inform",
                [_constraint("elapsedTime", "lteq", _duration(one.notice_hours * 3600))],
            ),
            "cs:severity": one.level,
            "dct:description": one.what,
            "informedParty": list(charter.incident.contacts),
        }
        for one in charter.incident.severities
    ]


def _exit(charter: Charter) -> Json:
    terms = charter.exit
    after = _constraint("elapsedTime", "lteq", _duration(terms.wind_down_days * 86_400))
    return {
        **_duty(charter, "delete", [after], target=[f"cs:{one}" for one in terms.shred]),
        "cs:trigger": list(terms.triggers),
        "cs:survives": list(terms.survival),
        "cs:outputs": _uid(charter.owner if terms.outputs == "owner" else charter.partner),
    }


def _duty(charter: Charter, action: str, constraints: list[Json], **more: Any) -> Json:
    """What the owner has to do: it runs the models."""
    return {
        "assignee": _uid(charter.owner), "action": action, "constraint": constraints, **more
    }  # fmt: skip


def _constraint(left: str, operator: str, right: Any) -> Json:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def _time(moment: datetime) -> Json:
    return {"@value": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "@type": "xsd:dateTime"}


def _duration(seconds: int) -> Json:
    return {"@value": f"PT{seconds}S", "@type": "xsd:duration"}
