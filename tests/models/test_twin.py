"""A twin has the configuration that a module has now, not the one that it was made with."""

from memfix.models.twin import twin_of
from tests.conftest import tiny_pipeline, tiny_xl


def test_a_twin_is_built_as_the_module_is() -> None:
    for made in (tiny_pipeline().unet, tiny_xl().unet):
        again = twin_of(made)
        assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in made.named_parameters()}


def test_what_was_changed_since_stays_so() -> None:
    made = twin_of(tiny_pipeline().unet)
    made.register_to_config(sample_size=(8, 12), _use_default_values=["sample_size"])
    assert twin_of(made).config.sample_size == (8, 12)
