"""Where hostile input stops: canonical JSON, signed envelopes, size limits, version markers.

Everything that arrives is bounded before it is parsed, parsed into a typed value with no
unknown field, and written out again: if that does not give the same bytes, it is refused.
So there is exactly one encoding of everything that is signed or hashed.
"""
