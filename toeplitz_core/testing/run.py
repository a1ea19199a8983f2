"""A run: subjects x laws x dtypes x devices, searched one after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from toeplitz_core.testing.layouts import LAYOUTS
from toeplitz_core.testing.search import Result, search
from toeplitz_core.testing.verdict import Status

if TYPE_CHECKING:
    from toeplitz_core.testing.laws.base import Law
    from toeplitz_core.testing.profiles import Profile
    from toeplitz_core.testing.subjects.base import Runner

# Not for subjects that run in the judge's own process.
UNSAFE_LAYOUTS = ("channels_last", "channel_slice")
UNSAFE_REASON = "torch 2.13 on a CPU can kill the process on tensors whose channels are innermost; not run inline"
SAFE_LAYOUTS = tuple(layout for layout in LAYOUTS if layout not in UNSAFE_LAYOUTS)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and how hard to look."""

    subjects: Sequence[Runner]
    laws: Sequence[Law]
    dtypes: Sequence[str]
    devices: Sequence[str]
    profile: Profile
    examples: int | None = None
    seed: int | None = None
    fail_fast: bool = False
    layouts: Collection[str] = SAFE_LAYOUTS

    @property
    def steps(self) -> list[tuple[Runner, Law, str, str]]:
        """(subject, law, dtype, device) in the order of the run; without the dtypes that a law is not for."""
        return [
            (subject, law, dtype, device)
            for subject in self.subjects
            for device in self.devices
            for law in self.laws
            for dtype in self.dtypes
            if dtype in law.dtypes
        ]

    def run(self) -> Iterator[Result]:
        """The result of each step, as it comes. A device that is not there gives one that was not run."""
        settings = self.profile.settings(examples=self.examples, seeded=self.seed is not None)
        for subject, law, dtype, device in self.steps:
            if (reason := missing(device)) is not None:
                yield Result(subject.name, law.name, dtype, device, Status.NOT_RUN, message=reason)
                continue
            result = search(
                law, subject, dtype=dtype, settings=settings, device=device, seed=self.seed, layouts=self.layouts
            )
            yield result
            if self.fail_fast and result.status.is_failure:
                return


def missing(device: str) -> str | None:
    """Why a device cannot be used; None if it can."""
    named = torch.device(device)
    if named.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (named.index or 0) >= count:
            return f"torch sees {count} CUDA devices" if count else "torch sees no CUDA device"
        return None
    try:
        torch.empty(1, device=named)
    except (AssertionError, NotImplementedError, RuntimeError) as error:  # AssertionError: torch is built without it
        return str(error).partition("\n")[0]
    return None


def exit_code(results: Sequence[Result], *, required_devices: Sequence[str] = ()) -> int:
    """1 a law fails; 3 nothing proven, or a required device is absent; 0 all laws hold."""
    if any(result.status.is_failure for result in results):
        return 1
    absent = any(r.status is Status.NOT_RUN and r.device in required_devices for r in results)
    ran = [r for r in results if r.status is not Status.NOT_RUN]
    unproven = not ran or any(r.status in (Status.MISTRUSTED, Status.UNSUPPORTED) for r in ran)
    return 3 if absent or unproven else 0
