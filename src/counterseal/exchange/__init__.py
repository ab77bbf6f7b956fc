"""The sealed package: written, read, amended; and what a receiver remembers of it.

layout   where the parts lie         keys     every key of a package and its label
header   what the sender signs       stanza   the content key, once for each recipient
payload  leaves in parallel          writer   files in, package out, whole or not at all
reader   verified before used        amend    one more recipient, without touching payload
replay   high-water marks            whole    outputs that appear only when they are whole
"""
