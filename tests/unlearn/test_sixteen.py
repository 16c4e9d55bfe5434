"""What methods do, in a world where it can be counted: the point is gone or not, the rest is there or not."""

import math

import pytest
from sixteen import Net, World, unlearn

pytestmark = pytest.mark.slow  # a network is trained, and unlearned by three methods


@pytest.fixture(scope="module")
def learnt() -> tuple[World, Net]:
    world = World.seeded()
    return world, world.train()


def test_order_of_methods(learnt: tuple[World, Net]) -> None:
    world, model = learnt
    results = {"before": world.judge(model)} | {
        name: world.judge(unlearn(world, model, name)) for name in ("naive", "siss", "neggrad")
    }
    copies = {name: value[0] for name, value in results.items()}
    distance = {name: value[1] for name, value in results.items()}
    assert copies["before"] > 0.03  # one training point in twenty
    assert copies["siss"] == 0
    assert copies["siss"] < copies["naive"] < copies["before"]  # naive is weak
    assert distance["siss"] < 0.1
    assert distance["neggrad"] > 10 or math.isinf(distance["neggrad"])  # diverges
