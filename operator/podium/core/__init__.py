"""Pure decisions: no I/O, no clock, no randomness. Time enters as `now`."""
