"""How much effort a run makes: named profiles, the same for the command line and for pytest."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, settings

_PHASES = (Phase.explicit, Phase.generate, Phase.target, Phase.shrink)


@dataclass(frozen=True, slots=True)
class Profile:
    """An amount of effort.

    Parameters
    ----------
    examples : int
        Cases per law and dtype.
    deterministic : bool
        The same cases in every run: for a gate, where a failure should come from the change and not from the draw.
    remembers : bool
        Whether what failed in one run, without a seed, is tried first in the next. See :class:`Remembered`.
    climbs : bool
        Whether a part of the cases is spent on larger errors, in units of the bound, by changing the case with the
        largest: many cases are then alike, which few of them cannot afford.
    """

    name: str
    examples: int
    deterministic: bool
    remembers: bool = False
    climbs: bool = False

    def settings(self, *, examples: int | None = None, seeded: bool = False) -> settings:
        """Hypothesis settings. Convolutions have no natural deadline, and sizes are bounded by construction."""
        return settings(
            max_examples=self.examples if examples is None else examples,
            derandomize=self.deterministic and not seeded,
            database=None,  # see Remembered
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            phases=[phase for phase in _PHASES if self.climbs or phase is not Phase.target],
            verbosity=Verbosity.normal,
        )


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("smoke", 20, deterministic=False),
        Profile("gate", 100, deterministic=True),
        Profile("nightly", 3000, deterministic=False, remembers=True, climbs=True),
    )
}


def register() -> None:
    """Make the profiles known to Hypothesis, and with it to ``pytest --hypothesis-profile``."""
    for profile in PROFILES.values():
        settings.register_profile(profile.name, profile.settings())
