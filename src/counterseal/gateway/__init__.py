"""The gateway: a model by API, under a charter that both sides signed (SPEC 18)."""
