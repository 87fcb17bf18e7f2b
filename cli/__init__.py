"""For operators: what is done by hand to a deployed stack."""
