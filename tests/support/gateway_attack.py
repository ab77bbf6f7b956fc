"""Attacks on a gateway as rows of a table; each says how it is refused and what stops it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import Refused
from workshop import Cut

from counterseal.errors import CountersealError
from counterseal.gateway.refusals import refusal


def outcome(victim):
    """True if the attack worked; else the kind of the refusal, as outsiders read it."""
    try:
        said = victim()
    except Refused as error:
        return error.said.kind
    except CountersealError as error:
        assert error.message  # noqa: PT017 - said at the end
        return refusal(error).kind
    return said


@dataclass(frozen=True)
class Attack:
    """`make` prepares it in a town and returns what then happens, which is True if the attacker
    got what he wanted. `kind`: how it is refused; `without`: the checks that stop it."""

    make: object
    kind: str
    without: tuple = ()

    def is_refused(self, town):
        found = outcome(self.make(town))
        assert found == self.kind, f"{found}, not {self.kind}"

    def works_undefended(self, town, patch):
        for cut in self.without:
            cut.apply(patch)
        found = outcome(self.make(town))
        assert found is True, f"still refused: {found}"


def attack(kind, *without):
    """Decorator: a function that prepares an attack becomes a row of a table."""
    return lambda make: Attack(make, kind, without)


def cut(where, old, new="pass"):
    """One check of the gateway, taken out: `where` is within `counterseal.`"""
    return Cut(f"counterseal.{where}", old, new)
