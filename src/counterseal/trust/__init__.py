"""Who: identities, cards, partners, rotation, revocation, prekeys, keystores.

`history.History` is the heart: a pure state machine that decides which keys speak for an
organization at a given moment. Everything else stores it or signs for it.
"""
