"""Randomness as an argument."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.randomness import NoiseStream, as_generator, spawn, standard_normal


def test_a_generator_is_itself() -> None:
    generator = np.random.default_rng(1)
    assert as_generator(generator) is generator


def test_a_seed_makes_the_same_generator_each_time() -> None:
    draws = [as_generator(seed).random(4) for seed in (3, np.int64(3), np.random.SeedSequence(3))]
    for draw in draws[1:]:
        np.testing.assert_array_equal(draw, draws[0])
    assert (as_generator(4).random(4) != draws[0]).all()


def test_none_is_a_new_generator_each_time() -> None:
    assert as_generator().random() != as_generator(None).random()


@pytest.mark.parametrize("wrong", ["seed", 1.5, True, [1, 2], np.random.RandomState(0)])
def test_anything_else_is_refused(wrong: object) -> None:
    with pytest.raises(
        TypeError, match=r"^rng is .*, expected a numpy\.random\.Generator, a seed .* or None$"
    ):
        as_generator(wrong)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^rng is the seed -1, expected a non-negative integer$"):
        as_generator(-1)


def test_children_are_independent_and_repeatable() -> None:
    first, second = spawn(5, 2)
    assert first.random() != second.random()
    again, other = spawn(5, 2)
    again.random(1000)  # using one leaves the other as it was
    np.testing.assert_array_equal(other.random(3), spawn(5, 2)[1].random(3))
    parent = np.random.default_rng(5)
    assert spawn(parent, 1)[0].random() != spawn(parent, 1)[0].random()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_stream_gives_the_same_values_however_it_is_cut(dtype: type) -> None:
    whole = NoiseStream(7).standard_normal((5, 300), dtype)
    stream = NoiseStream(7)
    parts = [stream.standard_normal(size, dtype) for size in (1, 499, 0, 1000)]
    np.testing.assert_array_equal(np.concatenate(parts), whole.reshape(-1))


def test_a_stream_goes_on_from_its_state() -> None:
    stream = NoiseStream(np.random.default_rng(7))
    stream.standard_normal((3, 4))
    resumed = NoiseStream.from_state(stream.state())
    for draw in (
        lambda s: s.standard_normal((2, 5), np.float32),
        lambda s: s.uniform(9),
        lambda s: s.bernoulli(np.full((4, 4), 0.5)),
    ):
        np.testing.assert_array_equal(draw(stream), draw(resumed))
    assert stream.state() == resumed.state() == (stream.state()[0], 12 + 10 + 9 + 16)


@pytest.mark.parametrize("state", [(-1, 0), (2**64, 0), (1, -1)])
def test_a_state_that_is_none_is_refused(state: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"^state is "):
        NoiseStream.from_state(state)


def test_no_value_of_a_stream_is_used_twice() -> None:
    stream = NoiseStream(3)
    first, second = stream.uniform(1000), stream.uniform(1000)
    assert not np.isin(first, second).any()


def test_bernoulli_keeps_the_dtype_of_its_probabilities() -> None:
    for dtype in (np.float32, np.float64):
        ones = NoiseStream(1).bernoulli(np.array([[0, 1, 0.5]], dtype))
        assert ones.dtype == dtype
        assert ones[0, 0] == 0
        assert ones[0, 1] == 1
        assert ones[0, 2] in (0, 1)


def test_standard_normal_takes_one_draw_from_the_generator() -> None:
    one, other = np.random.default_rng(2), np.random.default_rng(2)
    small, large = standard_normal(one, (3,)), standard_normal(other, (50, 40), np.float32)
    np.testing.assert_allclose(small, large.reshape(-1)[:3], rtol=1e-4)
    assert one.random() == other.random()
    np.testing.assert_array_equal(standard_normal(2, (3,)), small)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_are_binarized_by_the_draws_of_their_grey_levels(dtype):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 97), dtype=np.uint8)
    of_bytes, of_levels = NoiseStream(3), NoiseStream(3)
    for _ in range(2):  # and both go on from the same place
        binary = of_bytes.binarize(pixels, dtype)
        assert binary.dtype == dtype
        np.testing.assert_array_equal(binary, of_levels.bernoulli(pixels / dtype(255)))
