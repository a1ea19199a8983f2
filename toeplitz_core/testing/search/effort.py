"""How hard to look for a case that breaks a law: a search or a sweep, and the profiles that say how many cases."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, settings

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS

_PHASES = (Phase.explicit, Phase.generate, Phase.target, Phase.shrink)
# Cases of one dtype that even a law with a small share has: a handful of kinds of geometries.
_FEWEST = 8
# The part of a profile's cases that a law takes, if not all of them: less where other laws see the same mistakes, or
# where a case takes several calls.
_SHARES = {
    "special-values": 0.4,
    "gradients-exact": 0.2,
    "gradients-bound": 0.2,
    "contract": 0.16,
    **dict.fromkeys(("matrix", "strides", "adjoint", "double-backward", "forward-mode", "functional-gradients"), 0.12),
    **dict.fromkeys(("vmap", "transposed"), 0.12),
    **dict.fromkeys(("additive-in-input", "additive-in-weight", "homogeneous", "shift-equivariant"), 0.08),
    **dict.fromkeys(("batch-independent", "output-channels", "input-channels", "groups", "dilation"), 0.08),
    **dict.fromkeys(("stride", "padding", "channels-add-up", "pointwise", "delta-kernel", "composition"), 0.08),
    **dict.fromkeys(("no-channels", "stale-memory"), 0.08),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """An amount of effort.

    Parameters
    ----------
    name : str
    examples : int
        Cases per law and dtype, of which a law takes its share.
    deterministic : bool
        Whether the seed is always 0: for a gate, where a failure should come from the change and not from the draw.
    remembers : bool
        Whether what failed in one run, without a seed, is tried first in the next.
    climbs : bool
        Whether a part of the cases is spent on larger errors, in units of the bound, by changing the case with the
        largest: many cases are then alike, which few of them cannot afford.
    """

    name: str
    examples: int
    deterministic: bool
    remembers: bool = False
    climbs: bool = False

    def examples_of(self, law: str) -> int:
        """Cases per dtype of a law, by its name."""
        return max(min(self.examples, _FEWEST), round(self.examples * _SHARES.get(law, 1.0)))

    def settings(self) -> settings:
        """Hypothesis settings for a test."""
        return _settings(self.examples, climbs=self.climbs, derandomize=self.deterministic)


@dataclass(frozen=True, slots=True)
class Search:
    """Draw cases, and shrink the first that fails.

    Parameters
    ----------
    examples : int
    seed : int
        With it the same cases come again, for every subject and on every device.
    climbs : bool
        As of :class:`Profile`.
    layouts : tuple of str
        Memory layouts that the cases may name.
    first : tuple of Case or Call
        What is tried before all else.
    """

    examples: int
    seed: int = 0
    climbs: bool = False
    layouts: tuple[str, ...] = ALL_LAYOUTS
    first: tuple[Case | Call, ...] = ()

    def settings(self, draws: int) -> settings:
        """Hypothesis settings for as many cases, of which several come from one example."""
        return _settings(-(-self.examples // draws), climbs=self.climbs)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Take every convolution up to some steps from the smallest, the nearest first, until one fails.

    Parameters
    ----------
    steps : int
    """

    steps: int


Effort = Search | Sweep

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("smoke", 20, deterministic=True),
        Profile("gate", 100, deterministic=True),
        Profile("nightly", 3000, deterministic=False, remembers=True, climbs=True),
    )
}


def register() -> None:
    """Make the profiles known to Hypothesis, and with it to ``pytest --hypothesis-profile``."""
    for profile in PROFILES.values():
        settings.register_profile(profile.name, profile.settings())


def _settings(examples: int, *, climbs: bool, derandomize: bool = False) -> settings:
    """Convolutions have no natural deadline, and sizes are bounded by construction."""
    return settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,  # what failed is remembered as a line: strategies change, and lines do not
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=[phase for phase in _PHASES if climbs or phase is not Phase.target],
        verbosity=Verbosity.normal,
    )
