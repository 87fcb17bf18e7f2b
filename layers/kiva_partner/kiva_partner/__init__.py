"""What the functions of kiva-relay share: from a partner's message to Kiva's answer, sent once and written down.

Imports go one way:
functions -> runtime -> {api, queues} -> telemetry -> relay -> {ledger, client} -> {messages, tokens} ->
{settings, strict_json, photos} -> errors.
"""
