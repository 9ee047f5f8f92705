"""Random streams named by keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worldr1_core.seeding import derive_seed, draw_normal, generator


def test_a_stream_is_named_by_all_of_its_keys():
    keys = [(0,), (1,), (0, 1), (0, "1"), (0, "a", 1), (0, "a1"), (0, 1, "a"), (0, "a", 1, 0)]
    assert len({derive_seed(*key) for key in keys}) == len(keys)
    assert all(0 <= derive_seed(*key) < 2**63 for key in keys)


def test_the_stream_of_a_key_does_not_change_between_versions():
    """The first 63 bits of `printf "(7, 'rollout', 3)" | sha256sum`."""
    assert derive_seed(7, "rollout", 3) == 5378413411257329946


def test_integers_of_numpy_and_torch_name_the_same_stream():
    assert derive_seed(np.int64(7), "a", torch.tensor(3)) == derive_seed(7, "a", 3)


def test_generators_repeat():
    first, second = (torch.randn(5, generator=generator(3, "x")) for _ in range(2))
    assert torch.equal(first, second)


def test_noise_of_a_sample_depends_on_its_own_generator_alone():
    like = torch.empty(3, 2, 5, dtype=torch.bfloat16)
    together = draw_normal([generator(i) for i in range(3)], like)
    assert together.dtype == torch.float32
    for i in range(3):
        assert torch.equal(draw_normal([generator(i)], like[:1])[0], together[i])


def test_one_generator_a_sample():
    with pytest.raises(ValueError, match="one generator per sample, 2; received 1"):
        draw_normal([generator(0)], torch.empty(2, 3))
