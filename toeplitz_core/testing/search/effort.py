"""The effort of looking for a case that breaks a law: a search or a sweep, and profiles of their size."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, settings

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS

_PHASES = (Phase.explicit, Phase.generate, Phase.target, Phase.shrink)
# The least number of cases per dtype, even for a law with a small share: enough for a few kinds of geometries.
_FEWEST = 8
# The share of a profile's cases that a law takes, if not all. It is smaller if other laws find the same mistakes, or if
# a case takes several calls.
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
        What users write to choose it, such as ``gate``.
    examples : int
        Cases per law and dtype; each law takes its share of them.
    deterministic : bool
        Whether the seed is always 0. A gate needs that, so that a failure comes from the change and not from the draw.
    remembers : bool
        Whether a run without a given seed first tries the failures of the last run.
    climbs : bool
        Whether some cases are spent on larger errors, in units of the bound, by changing the case with the largest
        error so far. Many cases are then alike, so this needs many cases.
    """

    name: str
    examples: int
    deterministic: bool
    remembers: bool = False
    climbs: bool = False

    def examples_of(self, law: str) -> int:
        """The number of cases per dtype of a law, by its name."""
        return max(min(self.examples, _FEWEST), round(self.examples * _SHARES.get(law, 1.0)))

    def settings(self) -> settings:
        """Hypothesis settings for a test."""
        return _settings(self.examples, climbs=self.climbs, derandomize=self.deterministic)


@dataclass(frozen=True, slots=True)
class Search:
    """Draw cases and shrink the first that fails.

    Parameters
    ----------
    examples : int
        Number of cases to draw.
    seed : int
        The same seed gives the same cases, for every subject and on every device.
    climbs : bool
        As in :class:`Profile`.
    layouts : tuple of str
        Memory layouts that the cases may name.
    first : tuple of Case or Call
        Cases to try first.
    """

    examples: int
    seed: int = 0
    climbs: bool = False
    layouts: tuple[str, ...] = ALL_LAYOUTS
    first: tuple[Case | Call, ...] = ()

    def settings(self, draws: int) -> settings:
        """Hypothesis settings for this number of cases, if each example gives ``draws`` of them."""
        return _settings(-(-self.examples // draws), climbs=self.climbs)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Try every convolution within some steps of the smallest one, the nearest first, until one fails.

    Parameters
    ----------
    steps : int
        Largest distance from the smallest convolution.
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
    """Register the profiles with Hypothesis, for ``pytest --hypothesis-profile``."""
    for profile in PROFILES.values():
        settings.register_profile(profile.name, profile.settings())


def _settings(examples: int, *, climbs: bool, derandomize: bool = False) -> settings:
    """Hypothesis settings without deadline and size checks: strategies already bound the sizes."""
    return settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,  # failures are remembered as lines, which stay valid when strategies change
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=[phase for phase in _PHASES if climbs or phase is not Phase.target],
        verbosity=Verbosity.normal,
    )
