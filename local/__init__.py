"""Everything that runs kiva-relay on one machine."""
