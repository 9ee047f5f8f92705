"""Where the window of stochastic steps stands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldr1_core.errors import UserError
from worldr1_core.sampler import SamplerConfig, choose_window


def config(**options):
    return SamplerConfig(**options)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    steps=st.integers(1, 60),
    length=st.integers(0, 8),
    start=st.integers(0, 20),
    stop=st.none() | st.integers(1, 70),
    position=st.sampled_from(["fixed", "random", "sliding"]),
    seed=st.integers(0, 2**62),
    rollout_batch=st.integers(0, 10_000),
    last=st.booleans(),
)
def test_a_window_is_inside_its_bounds_and_pure(steps, length, start, stop, position, seed, rollout_batch, last):
    options = config(
        num_inference_steps=steps, window=length, window_start=start, window_stop=stop, window_position=position
    )
    fits = length == 0 or (start + length <= steps - (not last) and (stop is None or start < stop))
    if not fits:
        with pytest.raises(UserError, match=f"A window of {length} steps cannot begin"):
            choose_window(options, seed, rollout_batch, last_step=last)
        return
    begin, end = choose_window(options, seed, rollout_batch, last_step=last)
    assert (begin, end) == choose_window(options, seed, rollout_batch, last_step=last)
    assert end - begin == length
    if length:
        assert start <= begin
        assert end <= steps - (not last)
        assert begin < (stop if stop is not None else max(start + 1, steps // 2))


def windows(count=100, seed=0, **options):
    return [choose_window(config(**options), seed, rollout_batch) for rollout_batch in range(count)]


def test_a_fixed_window_stays():
    assert set(windows(num_inference_steps=10, window_position="fixed", window_start=3)) == {(3, 5)}


def test_a_sliding_window_moves_on_and_comes_back():
    found = windows(7, num_inference_steps=10, window_position="sliding", window_start=1, window_stop=4)
    assert found == [(1, 3), (2, 4), (3, 5), (1, 3), (2, 4), (3, 5), (1, 3)]


def test_a_random_window_begins_everywhere_in_the_first_half_about_as_often():
    begins = [begin for begin, _ in windows(2000, num_inference_steps=10, window_position="random")]
    counts = [begins.count(begin) for begin in range(5)]
    assert sum(counts) == 2000
    assert all(abs(count - 400) < 5 * 18 for count in counts)


def test_random_windows_depend_on_the_seed_and_the_block():
    first, second = (windows(50, seed, num_inference_steps=50) for seed in (0, 1))
    assert first != second
    assert len(set(first)) > 10


def test_a_window_of_the_whole_schedule_fits_only_if_the_last_step_can_be_drawn():
    whole = config(num_inference_steps=4, window=4)
    assert choose_window(whole, 0, 0) == (0, 4)
    with pytest.raises(UserError, match=r"the last of which is deterministic. Lower window"):
        choose_window(whole, 0, 0, last_step=False)


def test_the_message_names_the_bound_that_was_given():
    with pytest.raises(UserError, match="at or after step 5 and before step 3 in a schedule of 50 steps"):
        choose_window(config(window_start=5, window_stop=3), 0, 0)
