"""The partner's side of a gateway: a session, calls within it, and a witness of its ledger."""
