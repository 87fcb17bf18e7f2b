"""What the functions of kiva-relay share: from a partner's message to Kiva's answer, sent once and written down.

Imports go one way: docs/architecture.md, "The rooms".
"""
