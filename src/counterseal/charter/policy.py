"""A charter as Cedar policies (SPEC 16.4).

There are only `permit`s, and every limit is a condition of all of them: Cedar skips a policy
whose condition fails with an error, and a `forbid` that is skipped allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_type_hints

from counterseal.charter.clauses import clauses_of, used_fact
from counterseal.charter.conditions import ENTITIES, Facts, cedar, literal
from counterseal.charter.document import ACTIONS

if TYPE_CHECKING:
    from counterseal.charter.clauses import Grant
    from counterseal.charter.document import Charter

__all__ = ["context_of", "policies", "schema"]

_KINDS: Final = {
    name: "Long" if kind is int else "String" for name, kind in get_type_hints(Facts).items()
}


def schema(charter: Charter) -> str:
    """Which facts there are, and of which type."""
    fields = "".join(f"  {name}: {_KINDS[name]},\n" for name in context_of(charter))
    actions = ", ".join(map(literal, ACTIONS))
    scope = "principal: [Party], resource: [Asset], context: Facts"
    return (
        f"entity Party;\nentity Asset;\ntype Facts = {{\n{fields}}};\n"
        f"action {actions} appliesTo {{ {scope} }};\n"
    )


def context_of(charter: Charter) -> tuple[str, ...]:
    """The facts that Cedar sees in the context: of the amounts used, those with a quota."""
    limited = {used_fact(quota) for quota in charter.limits.quotas}
    return tuple(
        name
        for name in _KINDS
        if name not in ENTITIES and (not name.startswith("used_") or name in limited)
    )


def policies(charter: Charter) -> str:
    """One policy for each permission. Equal charters give equal text."""
    clauses = clauses_of(charter)
    always = [cedar(clause.condition) for clause in clauses.always]
    return "\n".join(_permit(grant, always) for grant in clauses.grants)


def _permit(grant: Grant, always: list[str]) -> str:
    # The conditions of the permission come first: most permissions end there.
    conditions = [cedar(clause.condition) for clause in grant.clauses] + always
    when = "".join(f"when {{ {condition} }}\n" for condition in conditions).rstrip()
    return f"@id({literal(grant.id)})\npermit (principal, action, resource)\n{when};\n"
