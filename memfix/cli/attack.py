"""`memfix attack`: try to bring erased training images back."""

from memfix.cli import show
from memfix.cli.options import Call, RunArgument, command
from memfix.cli.recheck import Adapters, Model
from memfix.cli.unlearn import open_run
from memfix.config.checks import RecheckSettings
from memfix.world import World


@command(recheck=dict.fromkeys(("attacks", "paraphrases", "attack_samples", "attack_seed", "control_pictures"), ""))
def attack(call: Call, run: RunArgument = None, lora: Adapters = None, model: Model = None) -> None:
    """Attack weights under the memorized prompts of a run: the run's own, or others, as made by another tool.

    The same attacks are made on training images that the model never memorized, and on the original model. Run it again
    to resume. Several processes can share the work; accelerate sets RANK and WORLD_SIZE for them.
    """
    opened, world = open_run(run), World.from_environment()
    settings = call.settings(RecheckSettings)
    if call.dry_run:
        show.settings(call, {"recheck": settings})
        return
    from memfix import flow
    from memfix.flow.new_weights import NewWeights
    from memfix.recheck.attacks.table import get_attacks

    get_attacks(settings)
    done = flow.attack(opened, settings, call.talk, NewWeights.of(opened, lora or (), model), world)
    show.attacked(call, done)
