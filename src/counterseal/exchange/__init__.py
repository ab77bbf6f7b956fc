"""The sealed package: written, read, amended; and what a receiver remembers of it.

layout   where the parts lie         keys     every key of a package and its label
header   what the sender signs       stanza   the content key, once for each recipient
payload  leaves in parallel          writer   files in, package out, whole or not at all
reader   verified before used        amend    one more recipient, without touching payload
replay   high-water marks            whole    outputs that appear only when they are whole

What travels: letters in boxes, and shipments of named blocks, over `transports`.

boxes    where letters lie           letter   signed and sealed documents
sealing  one message, one partner    shipment a front under a fresh key, blocks by digest
incoming blocks that arrive          outbox   what was sent, and confirmed by a `receipt`
rendezvous  where strangers meet

What is said while both are there: a handshake gives a channel, a group shares a key.

handshake, transcript, handshake_messages, sessionbook     who is there, and fresh keys
channel, link, carriers, session                            messages in order over anything
groups, epoch, epoch_check, group_messages                  one key for many, renewed
"""
