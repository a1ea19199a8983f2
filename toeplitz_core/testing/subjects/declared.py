"""What the options of a run declare about its subjects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Declared:
    """What the options of a run declare about subjects that declare nothing themselves.

    Parameters
    ----------
    differentiable : bool
        Whether results must be attached to autograd.
    dtypes : tuple of str
        The dtypes that the run asks for; empty for all. A subject is called with no others.
    arithmetic : tuple of str
        How they compute: ``NAME`` or ``DTYPE=NAME``, as for ``--arithmetic``.
    """

    differentiable: bool = False
    dtypes: tuple[str, ...] = ()
    arithmetic: tuple[str, ...] = ()
