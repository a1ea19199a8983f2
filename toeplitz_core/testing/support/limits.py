"""Limits and defaults that help texts name. Nothing is imported here, so that a help text needs no torch."""

# Seconds that a call may take.
TIMEOUT = 10.0
# The number of different failures of a law in one dtype after which its search ends.
MOST_FAILURES = 4
# The steps of the longest sweep: nine would be over a million convolutions.
MOST_STEPS = 8
# The number of cases that a law with full effort takes per dtype, by the name of the profile.
EXAMPLES = {"smoke": 20, "gate": 100, "nightly": 3000}
# How often a case is replayed: a failure that occurs in half of all runs is then missed once in a thousand times.
RUNS = 10
# After this many seconds, no further run of a replayed case starts. A layer of a gigabyte, or a subject that compiles,
# may take that long for one run.
ENOUGH = 10.0
