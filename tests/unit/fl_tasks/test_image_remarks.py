from __future__ import annotations

import numpy as np

from fl_tasks.image_remarks import digests_of, disagreeing, in_test_too, turned
from tests.radiographs import chest


def test_turned_images_are_named_as_a_guess() -> None:
    images = [chest(1), np.ascontiguousarray(np.rot90(chest(2), 2)), np.ascontiguousarray(np.rot90(chest(3)))]
    assert turned(images, ["a", "b", "c"]) == [
        "2 of 3 images may not be upright, such as b (upside down), c (lying on a side): look at them, this is a guess"
    ]
    assert turned(images[:1], ["a"]) == []


def test_equal_pixels_in_two_classes_are_told() -> None:
    keys = digests_of(np.array([[[1]], [[2]], [[1]], [[2]]], np.uint8))
    assert keys[0] == keys[2] != keys[1]
    assert disagreeing(keys, [0, 1, 0, 1], list("abcd")) == []
    (line,) = disagreeing(keys, [0, 1, 1, 1], list("abcd"))
    assert line == "1 images have the pixels of one in another class, such as c: one of the two is wrong"


def test_what_training_and_test_share_is_told() -> None:
    assert in_test_too([b"1", b"2"], ["a", "b"], ["p", "q"], [b"3"], ["r"]) == []
    assert in_test_too([b"1", b"2"], ["a", "b"], ["p", "q"], [b"2", b"2"], ["q", "r"]) == [
        "1 training images are in the test part too, such as b: take them out of one",
        "1 patients are in the training and in the test part: scores on it will flatter",
    ]
