"""Which settings each method looks at, held against what its functions do look at."""

from typing import Any

import pytest
from tiny import bank_of

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import MemfixError
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.methods import METHODS
from memfix.unlearn.reading import OWN, SOME, check_settings, drawn_mixture, kinds_used, settings_of
from memfix.variants.table import VARIANT_KINDS


class Seen:
    """Settings that note which of them are looked at."""

    def __init__(self, settings: UnlearnSettings) -> None:
        self._settings, self.names = settings, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self._settings, name)


@pytest.mark.parametrize("name", METHODS)
def test_rows_name_the_settings_that_their_functions_look_at(name: str) -> None:
    seen: Any = Seen(UnlearnSettings())
    METHODS[name].compose(seen)
    METHODS[name].prepare(bank_of("epsilon"), seen)
    assert seen.names == set(METHODS[name].reads) - {"surrogates"}  # pictures are gathered elsewhere


IGNORED = [
    ("siss", "forget_weight", 0.3), ("siss", "bome_eta", 0.1), ("siss", "nearest_keep", 3),
    ("naive", "forget_ratio", 0.3), ("naive", "mixture", 0.3), ("naive", "forget_low_pass", 0.5),
    ("bounded", "forget_ratio", 0.3), ("bounded", "siss_mode", "no-is"), ("bounded", "forget_norm", 3.0),
    ("retrack", "forget_cap", 1.0), ("vdu", "forget_weight", 0.3), ("neggrad", "forget_weight", 0.3),
    ("neggrad", "prior_batch_size", 4), ("vdu", "mixture", 0.3), ("siss", "surrogates", "folder"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "name", "value"), IGNORED)
def test_what_a_method_never_looks_at_is_refused(method: str, name: str, value: Any) -> None:
    settings = UnlearnSettings(**{"method": method, name: value})
    with pytest.raises(MemfixError, match=f"'{method}' does not use {name}") as caught:
        check_settings(METHODS[method], settings, [name])
    readers = [m for m in METHODS if f"--method {m}" in caught.value.hint or f"or {m}" in caught.value.hint]
    assert readers
    for reader in readers:
        check_settings(METHODS[reader], settings.model_copy(update={"method": reader}), [name])
    if name != "surrogates":
        check_settings(METHODS[method], settings)  # not named by the user


@pytest.mark.parametrize(
    ("values", "name", "reason"),
    [
        ({"siss_mode": "no-is"}, "mixture", "both sides"),
        ({"forget_norm": 750.0}, "forget_ratio", "--forget-norm replaces it"),
        ({"weights": "full"}, "rank", "all weights are trained"),
        ({"weights": "full", "use_dora": True}, "use_dora", "all weights are trained"),
        ({"loop": "open"}, "clean_validations", "there is no validation"),
        ({"loop": "closed", "lr_scheduler": "cosine"}, "lr_scheduler", "finds the learning rate"),
    ],
)
def test_what_other_settings_leave_without_effect_is_refused(values: dict, name: str, reason: str) -> None:
    with pytest.raises(MemfixError, match=reason):
        check_settings(METHODS["siss"], UnlearnSettings(**values), [name])


def test_what_forgets_nothing_cannot_work_against_an_attack() -> None:
    check_settings(METHODS["siss"], UnlearnSettings(adversarial_steps=3), ["adversarial_steps"])
    with pytest.raises(MemfixError, match="adversarial_steps has no effect: method 'naive' has no forget term"):
        check_settings(METHODS["naive"], UnlearnSettings(adversarial_steps=3))


def test_what_is_off_needs_no_reader() -> None:
    values = {"method": "neggrad", "loop": "open", "prior_batch_size": 0, "keep_variants": 0, "reword": False}
    settings = UnlearnSettings(weights="full", **values)
    check_settings(METHODS["neggrad"], settings, UnlearnSettings.model_fields.keys() - {"rank", "mixture", *OWN} - {
        "prior_target", "prior_loss_weight", "prior_prompts", "keep_enough", "num_validation_images", "validation_inference_steps",
        "clean_validations", "max_drift", "max_broken",
    })  # fmt: skip


def test_every_setting_of_some_has_a_reader() -> None:
    plain = UnlearnSettings()
    assert set().union(*(settings_of(m, plain) for m in METHODS.values())) == SOME


def test_ways_are_for_those_who_look_at_keep_images() -> None:
    every = list(VARIANT_KINDS)
    assert kinds_used(METHODS["siss"], UnlearnSettings(reword=False)) == every
    assert kinds_used(METHODS["vdu"], UnlearnSettings(reword=False)) == every  # the prior
    assert kinds_used(METHODS["neggrad"], UnlearnSettings(reword=False)) == []
    assert kinds_used(METHODS["neggrad"], UnlearnSettings(reword=False, parameter_prior=0.5)) == every
    assert kinds_used(METHODS["neggrad"], UnlearnSettings(reword=True)) == ["shorten"]
    assert kinds_used(METHODS["siss"], UnlearnSettings(keep_variants=0)) == []


@pytest.mark.parametrize(("mixture", "size"), [(0.5, 16), (0.05, 4), (0.99, 4), (0.1, 16), (0.5, 5)])
def test_the_mixture_that_is_told_is_the_one_that_is_drawn(mixture: float, size: int) -> None:
    batch = bank_of("epsilon").draw(Draw(0, 0), size, 2, mixture, (0, 100))
    assert drawn_mixture(UnlearnSettings(mixture=mixture, train_batch_size=size)) == pytest.approx(batch.mixture)
