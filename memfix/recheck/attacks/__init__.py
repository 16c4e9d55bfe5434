"""Ways to get an erased picture back. Each is a function and a row in `table.ATTACKS`."""
