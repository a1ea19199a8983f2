"""What a failure looks like, by the kind of thing that went wrong. The message of a failure has the rest."""

from __future__ import annotations

from enum import StrEnum


class Symptom(StrEnum):
    """The class of a failure. All but the first three are also causes, behind which no test can look."""

    VALUES = "values"
    RELATION = "relation"
    OTHER = "other"
    WRONG_SHAPE = "wrong-shape"
    WRONG_DTYPE = "wrong-dtype"
    REFUSED = "refused"
    ACCEPTED = "accepted-invalid"
    CRASH = "crash"
    EXIT = "exit"
    HANG = "hang"
    OPERAND = "operand-modified"
    STATE = "state-modified"
    BUFFER = "buffer-reused"
    STALE = "stale-memory"
    CHANGING = "nondeterministic"
    BEYOND = "reads-beyond"
    DETACHED = "gradient-missing"
    BREAKPOINT = "breakpoint"
