"""What a server says to those who call it, and whom it lets in: calls, messages, shares, the port.

Judges who may ask what, and waits for `core` to decide; decides nothing about a round itself. May touch `core`,
`storage` and `common`.
"""
