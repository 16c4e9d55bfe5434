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
        Screen("magnitude", "how far the prompt moves the noise prediction", lambda s: 2 * s.steps, magnitude),
        Screen("anisotropy", "that at high noise, and its alignment at low noise", lambda s: 4, anisotropy),
        Screen("curvature", "how sharply that move changes along itself", lambda s: 4, curvature),
        Screen("consistency", "how alike seeds are in that move", lambda s: 2 * s.steps, consistency, min_seeds=2),
        Screen(
            "bright_ending", "that move where the end of the prompt is attended to",
            lambda s: 2 * s.num_inference_steps, bright_ending,
        ),
        Screen("agreement", "how near two seeds are in where they head", lambda s: 2 * s.steps, agreement, min_seeds=2),
        Screen("fine_detail", "fine detail of that move, common to the seeds", lambda s: 2 * s.steps, fine_detail),
    )
}  # fmt: skip


def get_screen(name: str) -> Screen:
    """A screen by name; the error names the nearest one."""
    if name not in SCREENS:
        raise MemfixError(f"There is no screen '{name}'.", did_you_mean(name, list(SCREENS)), ExitCode.USAGE)
    return SCREENS[name]
