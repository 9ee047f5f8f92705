"""The order of numbered files."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldr1_core.natural_order import natural_key, natural_sorted

SEQUENCES = {
    "decimals": ["0.5.png", "0.75.png", "1.png", "1.25.png", "1.5.png", "10.png"],
    "decimals behind a prefix": ["frame_0.5.png", "frame_0.75.png", "frame_1.png", "frame_1.25.png"],
    "decimals as Python prints them": ["0.0.jpg", "0.25.jpg", "0.5.jpg", "1.0.jpg", "1.125.jpg"],
    "fixed decimals": ["t0.10.png", "t0.90.png", "t1.00.png", "t10.00.png"],
    "signs": ["-10.png", "-2.5.png", "-1.png", "0.png", "+1.png", "2.png"],
    "signs behind a prefix": ["x_-10.png", "x_-9.png", "x_0.png", "x_9.png"],
    "exponents": ["-1e3.png", "1e-05.png", "0.0001.png", "1.5e-3.png", "1.png", "2e1.png", "1e3.png"],
    "exponents behind a prefix": ["t_1e-05.png", "t_0.0001.png", "t_1.5e+1.png"],
    "dates": ["2024.01.31.png", "2024.02.01.png", "2024.10.01.png"],
    "versions": ["v1.8.mp4", "v1.9.mp4", "v1.10.mp4", "v1.11.mp4"],
    "dashes separate": ["clip-1.png", "clip-2.png", "clip-10.png"],
    "ISO dates": ["2024-01-02.png", "2024-01-10.png", "2024-02-01.png"],
    "episodes are no exponents": ["s01e02.mp4", "s01e10.mp4", "s02e01.mp4"],
    "plain name before its copies": ["frame.png", "frame (1).png", "frame (2).png", "frame (10).png"],
    "plain name before numbered ones": ["frame.png", "frame-1.png", "frame-2.png"],
    "plain name before underscores": ["frame.png", "frame_1.png", "frame_2.png"],
    "plain name before digits": ["frame.png", "frame1.png", "frame2.png"],
    "pairs of a camera app": [
        "IMG_20231115_170430.jpg",
        "IMG_20231115_170431.jpg",
        "IMG_20231115_170431 (1).jpg",
        "IMG_20231115_170432.jpg",
    ],
    "bursts of a camera app": [
        "20240101_120000.jpg",
        "20240101_120000(0).jpg",
        "20240101_120000~2.jpg",
        "20240101_120001.jpg",
    ],
    "copies of two kinds": ["a.jpg", "a.png", "a_1.png"],
    "paths": ["a/frame.png", "a/frame-1.png", "a/x/1.png", "b/0.5.png", "b/2.png"],
}


@pytest.mark.parametrize("names", SEQUENCES.values(), ids=SEQUENCES)
def test_sequences_are_ordered_as_people_number_them(names):
    shuffled = list(names)
    for seed in range(10):
        random.Random(seed).shuffle(shuffled)
        assert natural_sorted(shuffled) == names


@pytest.mark.parametrize("names", [names for kind, names in SEQUENCES.items() if kind != "versions"])
def test_the_key_of_one_name_agrees_with_the_order_of_all(names):
    shuffled = names[::-1]
    assert sorted(shuffled, key=natural_key) == names


def test_items_are_ordered_by_their_names():
    frames = [{"file": "2.png"}, {"file": "1.5.png"}, {"file": "1.25.png"}]
    assert natural_sorted(frames, key=lambda frame: frame["file"]) == frames[::-1]


@given(st.lists(st.decimals(-1000, 1000, allow_nan=False, places=3), min_size=1, max_size=8, unique=True))
def test_numeric_names_are_ordered_as_numbers(values):
    names = [f"{value.normalize():f}.png" for value in values]
    assert natural_sorted(names) == [f"{value.normalize():f}.png" for value in sorted(values)]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8, unique=True))
def test_floats_as_python_prints_them_are_ordered_as_numbers(values):
    names = {float(f"{value:.6g}"): f"{float(f'{value:.6g}')!r}.png" for value in values}
    assert natural_sorted(names.values()) == [names[value] for value in sorted(names)]


@given(st.lists(st.text(max_size=12), max_size=8))
def test_any_names_have_one_order(names):
    assert all(
        natural_sorted(order) == natural_sorted(names) for order in itertools.islice(itertools.permutations(names), 9)
    )


def test_numbers_of_any_length_are_read():
    assert natural_sorted(["9" * 6000, "1" + "0" * 6000]) == ["9" * 6000, "1" + "0" * 6000]
