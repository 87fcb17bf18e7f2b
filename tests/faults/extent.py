"""How much of this tier runs: all with `make faults`; the short form of `make test` still proves each sentence."""

import os

WHOLE = os.environ.get("FAULTS") == "whole"
