"""Screens: cheap scores of a prompt, no image decoded. One table, name → Screen; higher is more suspicious."""

from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.screens.agreement import agreement
from memfix.screens.anisotropy import anisotropy
from memfix.screens.base import Screen
from memfix.screens.bright_ending import bright_ending
from memfix.screens.consistency import consistency
from memfix.screens.curvature import curvature
from memfix.screens.fine_detail import fine_detail
from memfix.screens.magnitude import magnitude

SCREENS = {
    screen.name: screen
    for screen in (
        Screen("magnitude", "how far the prompt changes the noise prediction", lambda s: 2 * s.steps, magnitude),
        Screen("anisotropy", "magnitude at high noise, and alignment at low noise", lambda s: 4, anisotropy),
        Screen("curvature", "how sharply that change bends along itself", lambda s: 4, curvature),
        Screen("consistency", "how alike that change is over seeds", lambda s: 2 * s.steps, consistency, min_seeds=2),
        Screen(
            "bright_ending", "magnitude where the model attends to the prompt's end",
            lambda s: 2 * s.num_inference_steps, bright_ending,
        ),
        Screen("agreement", "how alike two seeds' predictions are", lambda s: 2 * s.steps, agreement, min_seeds=2),
        Screen("fine_detail", "fine detail of that change, common to the seeds", lambda s: 2 * s.steps, fine_detail),
    )
}  # fmt: skip


def get_screen(name: str) -> Screen:
    """A screen by name; the error names the nearest one."""
    if name not in SCREENS:
        raise MemfixError(f"There is no screen '{name}'.", did_you_mean(name, list(SCREENS)), ExitCode.USAGE)
    return SCREENS[name]
