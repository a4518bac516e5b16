from __future__ import annotations

import pytest

from fl_tasks.meaning import CLEAR, REFER, meaning_of, share

CHEST = ("NORMAL", "PNEUMONIA")


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.99, "more than 39 in 40"), (0.95, "about 19 in 20"), (0.81, "about 8 in 10"), (0.5, "about 5 in 10"),
     (0.01, "fewer than 1 in 20")],
)  # fmt: skip
def test_a_probability_in_words(probability: float, words: str) -> None:
    assert share(probability) == words


def test_a_sure_answer() -> None:
    found = meaning_of("chest-xray", CHEST, (0.19, 0.81), calibrated=True, doubtful=False)
    assert found.meaning == "About 8 in 10 X-rays that this model scores like this show pneumonia."
    assert found.band == CLEAR and "a radiologist decides" in found.advice


@pytest.mark.parametrize("pneumonia", [0.21, 0.5, 0.79])
def test_between_the_bounds_one_is_to_refer(pneumonia: float) -> None:
    found = meaning_of("chest-xray", CHEST, (1 - pneumonia, pneumonia), calibrated=True, doubtful=False)
    assert found.band == REFER and found.advice.startswith("Refer to a radiologist")
    sure = meaning_of(
        "chest-xray", CHEST, (1 - pneumonia, pneumonia), calibrated=True, doubtful=False, refer_below=0.5
    )
    assert sure.band == CLEAR


def test_a_doubtful_image_is_to_be_referred_however_sure_the_model_is() -> None:
    found = meaning_of("chest-xray", CHEST, (0.01, 0.99), calibrated=True, doubtful=True)
    assert found.band == REFER and "see the warnings" in found.advice


def test_a_model_that_was_never_calibrated_says_so() -> None:
    assert (
        "never calibrated"
        in meaning_of("chest-xray", CHEST, (0.1, 0.9), calibrated=False, doubtful=False).meaning
    )


def test_other_tasks_name_their_class() -> None:
    found = meaning_of("mnist", ("0", "1"), (0.1, 0.9), calibrated=True, doubtful=False)
    assert found.meaning == "About 9 in 10 images that this model scores like this are of class 1."
