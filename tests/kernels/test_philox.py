"""Counter-based random numbers: known answers, positions, distributions. Derived in `derivations/09-philox.md`.

What a right generator may fail by is in the ledger; each test states what a wrong one would have to do to pass.
"""

from __future__ import annotations

import functools
import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import sympy
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from scratchvae import kernels
from scratchvae.kernels import reference
from scratchvae.kernels.reference import philox as plain
from tests.ledger import Chance

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
keys = st.integers(0, 2**64 - 1)
offsets = st.one_of(st.integers(0, 5000), st.integers(0, 2**50))


def drawn(name: str, key: int, offset: int, count: int, dtype: type = np.float64) -> np.ndarray:
    out = np.full(count, np.nan, dtype)
    if name == "bernoulli":
        return kernels.bernoulli(key, offset, np.linspace(0, 1, count, dtype=dtype), out)
    return getattr(kernels, name)(key, offset, out)


# --- integers

KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> np.ndarray:
    return np.array([int(word, 16) for word in text.split()], np.uint32)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_published_known_answers(counter: str, key: str, expected: str) -> None:
    np.testing.assert_array_equal(kernels.philox4x32(words(counter)[None], words(key))[0], words(expected))


def philox_in_whole_numbers(counter: int, key: int, kind: int = 0) -> list[int]:
    """The generator as its paper writes it, with Python's integers."""
    c0, c1, c2, c3 = counter & 0xFFFFFFFF, counter >> 32, kind, 0
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


@given(key=keys, offset=st.integers(0, 2**60))
def test_position_in_the_stream_is_block_word_and_lane(key: int, offset: int) -> None:
    for position, word in enumerate(kernels.philox_uint32(key, offset, 3), start=offset):
        block, place = divmod(position, 1024)
        number, lane = divmod(place, 256)
        assert word == philox_in_whole_numbers(256 * block + lane, key)[number]


@pytest.mark.equation("9.2")
@given(key=keys, counters=st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=2, unique=True))
def test_different_counters_give_different_words(key: int, counters: list[int]) -> None:
    multiplier_inverses = [pow(m, -1, 2**32) for m in (0xD2511F53, 0xCD9E8D57)]

    def undo(output: list[int]) -> list[int]:
        c0, c1, c2, c3 = output
        for step in reversed(range(10)):
            k0 = ((key & 0xFFFFFFFF) + step * 0x9E3779B9) % 2**32
            k1 = ((key >> 32) + step * 0xBB67AE85) % 2**32
            old0, old2 = c3 * multiplier_inverses[0] % 2**32, c1 * multiplier_inverses[1] % 2**32
            old1 = c0 ^ k0 ^ (0xCD9E8D57 * old2 >> 32)
            old3 = c2 ^ k1 ^ (0xD2511F53 * old0 >> 32)
            c0, c1, c2, c3 = old0, old1, old2, old3
        return [c0, c1, c2, c3]

    for counter in counters:
        undone = undo(philox_in_whole_numbers(counter, key))
        assert undone == [counter & 0xFFFFFFFF, counter >> 32, 0, 0]


# --- positions

SAMPLERS = ["uniform", "standard_normal"]


@pytest.mark.parametrize("name", SAMPLERS)
@dtypes
@given(key=keys, offset=offsets, pieces=st.lists(st.integers(0, 1500), min_size=1, max_size=4))
def test_values_do_not_depend_on_how_the_stream_is_cut(
    name: str, dtype: type, key: int, offset: int, pieces: list[int]
) -> None:
    whole = drawn(name, key, offset, sum(pieces), dtype)
    starts = offset + np.cumsum([0, *pieces[:-1]])
    parts = [drawn(name, key, int(start), size, dtype) for start, size in zip(starts, pieces, strict=True)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", [*SAMPLERS, "bernoulli"])
@dtypes
@given(key=keys, offset=offsets, count=st.integers(0, 3000))
def test_twins_agree_bit_for_bit(name: str, dtype: type, key: int, offset: int, count: int) -> None:
    arguments = (np.linspace(0, 1, count, dtype=dtype),) if name == "bernoulli" else ()
    expected = getattr(reference, name)(key, offset, *arguments, np.empty(count, dtype))
    np.testing.assert_array_equal(drawn(name, key, offset, count, dtype), expected)


@pytest.mark.parametrize("name", SAMPLERS)
def test_output_of_any_shape_and_strides_is_filled_in_reading_order(name: str) -> None:
    flat = drawn(name, 3, 5, 60)
    strided = np.full((5, 24), np.nan)[:, ::2]
    assert getattr(kernels, name)(3, 5, strided) is strided
    np.testing.assert_array_equal(strided.reshape(-1), flat)


def test_pixels_are_binarized_with_their_own_probabilities() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(30).reshape(60, 128)
    for dtype in (np.float32, np.float64):
        out = kernels.binarize(7, 11, pixels, np.empty(pixels.shape, dtype))
        probability = pixels.astype(dtype) / dtype(255)
        expected = reference.bernoulli(7, 11, probability, np.empty(pixels.shape, dtype))
        np.testing.assert_array_equal(out, expected)
        assert not out[pixels == 0].any()
        assert out[pixels == 255].all()


def test_normals_share_no_counter_with_uniforms() -> None:
    block = np.stack([np.array(philox_in_whole_numbers(lane, 9, plain.NORMALS)) for lane in range(256)], 1)
    radius = np.sqrt(-2 * np.log((block[0] + 0.5) / 2**32))
    z = drawn("standard_normal", 9, 0, 512)
    np.testing.assert_allclose(np.hypot(z[:256], z[256:]), radius, rtol=1e-12)
    assert not np.isin(kernels.philox_uint32(9, 0, 4096), block).any()


# --- uniform values


@pytest.mark.equation("9.4")
def test_mean_and_variance_of_the_grid_of_uniform_values() -> None:
    k, n = sympy.symbols("k N", positive=True, integer=True)
    u = (k + sympy.Rational(1, 2)) / n
    mean = sympy.summation(u, (k, 0, n - 1)) / n
    variance = sympy.summation(u**2, (k, 0, n - 1)) / n - mean**2
    assert sympy.simplify(mean - sympy.Rational(1, 2)) == 0
    assert sympy.simplify(variance - (1 - 1 / n**2) / 12) == 0


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, 23), (np.float64, 32)])
def test_uniform_values_lie_on_their_grid_inside_the_open_interval(dtype: type, bits: int) -> None:
    extremes = plain._unit_interval(np.array([0, 2**32 - 1], np.uint32), np.dtype(dtype))
    assert list(extremes) == [2.0 ** -(bits + 1), 1 - 2.0 ** -(bits + 1)]
    u = drawn("uniform", 1, 0, 4096, dtype).astype(np.float64)
    np.testing.assert_array_equal(u * 2**bits % 1, 0.5)
    whole = kernels.philox_uint32(1, 0, 4096) >> (32 - bits)
    np.testing.assert_array_equal(u, (whole + 0.5) / 2.0**bits)


def draw_key(rng: np.random.Generator) -> int:
    return int(rng.integers(2**64, dtype=np.uint64))


def test_uniform_values_are_uniform(rng: np.random.Generator, chance: Chance) -> None:
    # A distribution function that is wrong by 0.005 is seen, and a bit that is one with a probability of 0.507.
    key = draw_key(rng)
    u = drawn("uniform", key, 0, 2**20)
    assert chance.allows(scipy.stats.kstest(u, "uniform").pvalue, 33)
    assert not chance.allows(scipy.stats.kstest(u**1.02, "uniform").pvalue, 33)
    bits = np.unpackbits(kernels.philox_uint32(key, 0, 2**18).view(np.uint8)).reshape(-1, 32)
    low, high = chance.between(scipy.stats.binom(2**18, 0.5), 33)
    assert low <= bits.sum(axis=0).min()
    assert bits.sum(axis=0).max() <= high < 0.507 * 2**18


@pytest.mark.equation("9.5")
def test_probability_of_a_one() -> None:
    bits = 6  # the formula does not depend on how many there are
    p, exact = np.linspace(0, 1, 1001), 2.0**bits
    grid = (np.arange(exact) + 0.5) / exact
    chance = (grid[None, :] < p[:, None]).mean(axis=1)
    np.testing.assert_array_equal(chance, np.ceil(exact * p - 0.5) / exact)
    assert np.abs(chance - p).max() <= 0.5 / exact
    assert chance[0] == 0
    assert chance[-1] == 1


@dtypes
def test_bernoulli_frequencies(dtype: type, rng: np.random.Generator, chance: Chance) -> None:
    # It sees a probability that is wrong by 0.007: twelve standard errors and more.
    key = draw_key(rng)
    for p in (0.001, 0.1, 0.5, 0.9):
        out = kernels.bernoulli(key, 0, np.full(10**6, p, dtype), np.empty(10**6, dtype))
        low, high = chance.between(scipy.stats.binom(10**6, float(dtype(p))), 4)
        found = out.sum(dtype=np.float64)
        assert low <= found <= high
        for planted in (-0.007, 0.007):
            assert not low <= found + planted * 10**6 <= high
    for p in (0, 1):
        out = kernels.bernoulli(key, 0, np.full(10**5, p, dtype), np.empty(10**5, dtype))
        assert (out == p).all()


# --- normal values


@pytest.mark.equation("9.6")
def test_radius_from_a_uniform_value() -> None:
    r, u = sympy.symbols("r u", positive=True)
    radius = sympy.sqrt(-2 * sympy.log(u))
    uniform = sympy.exp(-(r**2) / 2)
    assert sympy.simplify(radius.subs(u, uniform) - r) == 0
    density = -sympy.diff(uniform, r)  # |du/dr|, as u falls while r grows
    assert sympy.simplify(density - r * sympy.exp(-(r**2) / 2)) == 0


@pytest.mark.equation("9.7")
def test_change_of_variables_of_box_and_muller() -> None:
    r, phi = sympy.symbols("r phi", positive=True)
    x, y = r * sympy.cos(phi), r * sympy.sin(phi)
    jacobian = sympy.simplify(sympy.Matrix([x, y]).jacobian([r, phi]).det())
    assert sympy.simplify(jacobian - r) == 0
    polar = r * sympy.exp(-(r**2) / 2) / (2 * sympy.pi)  # density of (9.6) times that of the angle
    normal = sympy.exp(-(x**2 + y**2) / 2) / (2 * sympy.pi)
    assert sympy.simplify(polar / jacobian - normal) == 0


@pytest.mark.equation("9.12")
def test_how_far_the_tails_reach() -> None:
    reach = math.sqrt(66 * math.log(2))
    assert 6.76 < reach < 6.77
    for dtype in (np.float32, np.float64):
        radius = plain._radius(np.array([0], np.uint32), np.dtype(dtype))[0]
        assert abs(radius - reach) < 2e-7 * reach
    with mpmath.workdps(30):
        beyond = mpmath.erfc(mpmath.sqrt(33 * mpmath.log(2)))
        assert mpmath.mpf("1.3e-11") < beyond < mpmath.mpf("1.4e-11")


@pytest.mark.equation("9.13")
def test_variance_that_the_grid_of_radii_takes_away() -> None:
    with mpmath.workdps(50):
        for n in (2**10, 2**20, 2**32):
            # Σ_k log(k + ½) = log Γ(n + ½) − log Γ(½)
            total = mpmath.loggamma(mpmath.mpf(n) + 0.5) - mpmath.loggamma(mpmath.mpf("0.5"))
            mean_square = -2 * (total / n - mpmath.log(n))
            assert abs(mean_square / 2 - (1 - mpmath.log(2) / (2 * n))) < mpmath.mpf(1) / n**2


@functools.lru_cache(maxsize=1)
def ten_million(seed: int) -> np.ndarray:
    """The same for all tests of one seed."""
    return drawn("standard_normal", draw_key(np.random.default_rng(seed)), 0, 10**7, np.float32)


def test_moments_to_the_eighth(seed: int, chance: Chance) -> None:
    # The first two, whose distribution is known, are seen if they are wrong by 0.004 and 0.006; of the others, whose
    # tails are heavy, a fiftieth of their deviation is.
    z = ten_million(seed).astype(np.float64)
    n = z.size
    for found, distribution, size in (
        (z.mean(), scipy.stats.norm(scale=1 / math.sqrt(n)), 0.004),
        ((z**2).mean(), scipy.stats.chi2(n, scale=1 / n), 0.006),
    ):
        low, high = chance.between(distribution, 3)
        assert low <= found <= high
        for planted in (-size, size):
            assert not low <= found + planted <= high
    few = z[: 5 * 10**5]
    powers = np.cumprod(np.broadcast_to(few[:, None], (few.size, 8)), axis=1)[:, 2:]
    expected = np.array([0 if k % 2 else math.prod(range(1, k, 2)) for k in range(3, 9)])
    variances = np.array([math.prod(range(1, 2 * k, 2)) for k in range(3, 9)]) - expected**2.0
    chance.assert_unbiased(powers, expected, variances, bias=0.02 * np.sqrt(variances), comparisons=3)


def test_kolmogorov_smirnov_distance(seed: int, chance: Chance) -> None:
    # It sees a distribution function that is wrong by 0.005, as by a mean of 0.0126.
    n = 2 * 10**6
    normals = np.sort(ten_million(seed)[:n]).astype(np.float64)
    steps = np.arange(n + 1) / n
    # The distance has one end only, so half of what is allowed stays unused.
    allowed = chance.between(scipy.stats.kstwobign)[1] / math.sqrt(n)
    for planted in (0, -0.0126, 0.0126):
        theory = ndtr(normals + planted)
        distance = max((theory - steps[:-1]).max(), (steps[1:] - theory).max())
        assert (distance < allowed) == (planted == 0)


def test_numbers_in_the_tails(seed: int, chance: Chance) -> None:
    # Beyond every threshold it sees normals that are 1.4 times too large, beyond 3 deviations already those that are
    # 1.02 times.
    normals = ten_million(seed)
    for threshold in (1, 2, 3, 4, 4.5, 5):
        low, high = chance.between(scipy.stats.binom(normals.size, scipy.stats.norm.sf(threshold)), 12)
        for side in (normals, -normals):
            count = int((side > threshold).sum())
            assert low <= count <= high, f"{count} beyond {threshold}, expected {low} to {high}"
            assert (side > threshold / 1.4).sum() > high
            assert threshold != 3 or (side > 3 / 1.02).sum() > high
    assert np.abs(normals).max() < 6.77


def assert_independent(chance: Chance, x: np.ndarray, y: np.ndarray) -> None:
    """Of normal x (N,) and y (N,) neither the values nor the squares are correlated; 0.02 would be seen."""
    u, v = x**2 - 1, y**2 - 1
    variances = np.array([1.0, 4.0, 2.0, 2.0])
    products = np.stack([x * y, u * v, u * y, x * v], axis=1)
    chance.assert_unbiased(products, np.zeros(4), variances, bias=0.02 * np.sqrt(variances))


@pytest.mark.parametrize("lag", [1, 2, 4, 255, 256, 257, 512, 768, 1023, 1024, 4096])
def test_values_at_a_distance_are_independent(seed: int, chance: Chance, lag: int) -> None:
    # Box and Muller's two values share a radius: their squares would tell. No value is in two of the pairs.
    pairs = ten_million(seed)[: 10**6 // (2 * lag) * 2 * lag].astype(np.float64).reshape(-1, 2, lag)
    assert_independent(chance, pairs[:, 0].ravel(), pairs[:, 1].ravel())


@pytest.mark.parametrize("other", [1, 2, 1 << 31, 1 << 32, 1 << 63])
def test_streams_of_neighbouring_keys_are_independent(
    other: int, rng: np.random.Generator, chance: Chance
) -> None:
    key = draw_key(rng)
    x, y = (drawn("standard_normal", one, 0, 5 * 10**5) for one in (key, key ^ other))
    assert_independent(chance, x, y)


def test_words_of_a_counter_are_independent(rng: np.random.Generator, chance: Chance) -> None:
    # A 16 × 16 table of the leading bits of two of a counter's words; it sees one word in fifty that is the other's.
    planes = kernels.philox_uint32(draw_key(rng), 0, 2**20).reshape(-1, 4, 256) >> 28
    for first in range(4):
        for second in range(first):
            one, other = planes[:, first].ravel(), planes[:, second].ravel()
            copied = np.where(np.arange(one.size) % 50, one, other)
            for words in (one, copied):
                table = np.histogram2d(words, other, bins=16)[0]
                assert chance.allows(scipy.stats.chisquare(table.ravel()).pvalue, 6) == (words is one)


def test_precisions_round_the_same_normals() -> None:
    single = drawn("standard_normal", 21, 0, 10**6, np.float32)
    double = drawn("standard_normal", 21, 0, 10**6, np.float64)
    difference = np.abs(single - double)
    # The grid of u near 1 is 2⁻²⁴ in float32, which makes one of 2.4e-4 of the smallest radii.
    assert difference.max() < 2.5e-4
    assert np.quantile(difference, 0.999) < 1e-6


def test_normals_against_exact_arithmetic() -> None:
    key, worst = 3, 0.0
    z = drawn("standard_normal", key, 0, 1024)
    with mpmath.workdps(40):
        for lane in range(0, 256, 8):
            word = philox_in_whole_numbers(lane, key, plain.NORMALS)
            for pair in (0, 2):
                u = (mpmath.mpf(word[pair]) + 0.5) / 2**32
                fraction = (word[pair + 1] * 4) % 2**32
                x = mpmath.mpf(fraction - 2**32 if fraction >= 2**31 else fraction) / 2**32
                angle = mpmath.pi / 2 * (word[pair + 1] // 2**30 + x)
                radius = mpmath.sqrt(-2 * mpmath.log(u))
                for plane, exact in ((pair, mpmath.cos(angle)), (pair + 1, mpmath.sin(angle))):
                    value = z[256 * plane + lane]
                    error = abs(mpmath.mpf(float(value)) - radius * exact)
                    worst = max(worst, float(error / mpmath.mpf(float(np.spacing(abs(value))))))
    assert worst < 4, "units in the last place"
