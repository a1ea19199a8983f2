"""The effort of looking for a case that breaks a law: a search or a sweep, and profiles of their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from hypothesis import HealthCheck, Phase, Verbosity, settings

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS
from toeplitz_core.testing.laws.law import CallLaw, Law
from toeplitz_core.testing.search.law_cases import too_large
from toeplitz_core.testing.strategies.sweep import convolutions, most_products, number_of_convolutions
from toeplitz_core.testing.support.limits import EXAMPLES, MOST_FAILURES

_PHASES = (Phase.explicit, Phase.generate, Phase.target, Phase.shrink)
# The least number of cases per dtype, even for a law with a small share: enough for a few kinds of geometries.
_FEWEST = 8
# A sweep has parts of at least so many convolutions, and at most so many parts: each part generates those before it
# too, which takes a tenth of the time of a verdict.
_LEAST_PART, _MOST_PARTS = 500, 8
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
    **dict.fromkeys(("no-channels", "stale-memory", "in-bounds"), 0.08),
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
    profile : Profile
        The profile of the search.
    examples : int, optional
        Number of cases per law and dtype, instead of the profile's.
    seed : int
        The same seed gives the same cases, for every subject and on every device.
    layouts : tuple of str
        Memory layouts that the cases may name.
    first : tuple of Case or Call
        Cases to try first.
    failures : int
        After this many failures the search of a law for one dtype ends. Each is one that those before do not explain.
    """

    profile: Profile
    examples: int | None = None
    seed: int = 0
    layouts: tuple[str, ...] = ALL_LAYOUTS
    first: tuple[Case | Call, ...] = ()
    failures: int = MOST_FAILURES
    rounds: ClassVar[int] = 1

    def __str__(self) -> str:
        # Some laws take only a share of the profile's cases.
        cases = self.examples or f"up to {self.profile.examples}"
        return f"profile {self.profile.name}: {cases} cases per law and dtype, seed {self.seed}"

    def document(self) -> dict[str, object]:
        """The profile and the number of cases, for reports."""
        return {"profile": self.profile.name, "examples": self.examples or self.profile.examples}

    def in_round(self, number: int, layouts: tuple[str, ...], first: Sequence[Case | Call]) -> Search:
        """The search of one step in a round, which has its own seed. It tries the cases ``first`` before others."""
        return replace(self, seed=self.seed + number, layouts=layouts, first=tuple(first))

    def unused(self, _: Law) -> str:
        """Why a law is not checked; empty if it is."""
        return ""

    def too_large(self, _: Law) -> int:
        """The number of cases that are left out because they are too large for a law."""
        return 0

    def examples_of(self, law: str) -> int:
        """The number of cases per dtype of a law, by its name."""
        return self.examples or self.profile.examples_of(law)

    def settings(self, examples: int, draws: int) -> settings:
        """Hypothesis settings for this number of cases, if each example gives ``draws`` of them."""
        found = _settings(-(-examples // draws), climbs=self.profile.climbs)
        # A search ends Hypothesis at a failure, and shrinks it as a case: see smallest.py.
        return settings(found, phases=[phase for phase in found.phases if phase is not Phase.shrink])


@dataclass(frozen=True, slots=True)
class Sweep:
    """Try every convolution within some steps of the smallest one, the nearest first, until one fails.

    Parameters
    ----------
    steps : int
        Largest distance from the smallest convolution.
    part : int, optional
        Only this part, from 0; the default is the whole sweep.
    """

    steps: int
    part: int | None = None
    seed: ClassVar[None] = None
    layouts: ClassVar[tuple[str, ...]] = ()  # the subject's own

    def __str__(self) -> str:
        far = f"{self.steps} step{'s' * (self.steps != 1)}"
        swept = f"all {number_of_convolutions(self.steps):,} convolutions up to {far} from the smallest"
        return f"sweep: {swept}, in the subject's own layouts"

    def document(self) -> dict[str, object]:
        """As in :class:`Search`: a sweep has neither."""
        return {"profile": None, "examples": None}

    @property
    def rounds(self) -> int:
        """The number of its parts. It depends on nothing else, so that a run may be resumed with other workers."""
        return max(1, min(_MOST_PARTS, number_of_convolutions(self.steps) // _LEAST_PART))

    @property
    def numbers(self) -> range:
        """The numbers of the convolutions to check, in the order of the sweep."""
        total = number_of_convolutions(self.steps)
        if self.part is None:
            return range(total)
        return range(self.part * total // self.rounds, (self.part + 1) * total // self.rounds)

    def in_round(self, number: int, *_: object) -> Sweep:
        """One part: the rounds of a sweep are its parts. It tries no other cases first."""
        return replace(self, part=number)

    def unused(self, law: Law) -> str:
        """Why a law is not checked; empty if it is."""
        reason = "it is checked on calls, whose arguments may be anything; a sweep has only convolutions"
        return reason if isinstance(law, CallLaw) else ""

    def too_large(self, law: Law) -> int:
        """The number of cases that are left out because they are too large for a law."""
        if law.max_products is None or most_products(self.steps) <= law.max_products:
            return 0
        return sum(too_large(law, case) for case in convolutions(self.steps))


Effort = Search | Sweep

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("smoke", EXAMPLES["smoke"], deterministic=True),
        Profile("gate", EXAMPLES["gate"], deterministic=True),
        Profile("nightly", EXAMPLES["nightly"], deterministic=False, remembers=True, climbs=True),
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
