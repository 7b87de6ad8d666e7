"""The numbers behind the short polynomials, one set per precision. Derived in `derivations/09-philox.md`.

Each polynomial interpolates its function at the Chebyshev nodes of the interval where it is used, which is
within a small factor of the best of its degree; `tests/kernels/test_polynomials.py` recomputes them all with
mpmath. The degrees are the smallest whose error lies well below half a unit in the last place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["FLOAT32", "FLOAT64", "Constants", "constants_for"]


class Constants(NamedTuple):
    """What the kernels need as numbers of one precision.

    A literal such as ``0.5`` is a float64, and would make a float64 of everything that it meets.
    """

    zero: Any
    half: Any
    one: Any
    two: Any
    three: Any
    unit: Any  # 2⁻³²: a word times this lies in [0, 1]
    spare_bits: Any  # of a word, that a uniform value in this precision cannot use
    uniform_step: Any  # between neighbouring uniform values: 2⁻²³ or 2⁻³²
    leaky_slope: Any  # of leaky_relu where its input is negative
    byte: Any  # 255: what a pixel of value 1 is as a byte
    log_two: Any
    log_two_high: Any  # log 2 = high + low, and an integer below 2¹¹ times high is exact
    log_two_low: Any
    inverse_log_two: Any
    rounder: Any  # 1.5 · 2²³ or 1.5 · 2⁵²: added to a number it leaves no place for a fraction
    rounder_bits: Any  # its bits, as an integer
    root_half_bits: Any  # the bits of √½
    mantissa_bits: Any  # below the exponent: 23 or 52
    exponent_bias: Any  # 127 or 1023
    lowest_exponent: Any  # below this exp is zero
    highest_exponent: Any  # above this exp is infinite
    saturation: Any  # above this tanh(x / 2) is one, and below its opposite expm1(x) is minus one
    root_two_less_one: Any
    log: tuple[Any, ...]  # (9.8): (log m − 2s) / s³ in powers of s², s = (m − 1) / (m + 1), m in [√½, √2)
    sine: tuple[Any, ...]  # (9.9): sin(πx/2) / x in powers of x², |x| ≤ ½
    cosine: tuple[Any, ...]  # (9.9): cos(πx/2) in powers of x², |x| ≤ ½
    expm1: tuple[Any, ...]  # (9.10): (eʳ − 1 − r) / r² in powers of r, |r| ≤ ½ log 2


def _constants(dtype: Any, range_: tuple[float, float, float], **polynomials: tuple[str, ...]) -> Constants:
    single = dtype is np.float32
    integer = np.int32 if single else np.int64
    mantissa_bits = 23 if single else 52
    rounder = dtype(1.5 * 2.0**mantissa_bits)
    # The leading 9 or 33 bits of log 2, and what they leave out.
    high, low = (
        (355 / 512, -2.1219444005469057e-4) if single else (0.6931471803691238, 1.9082149292705877e-10)
    )
    return Constants(
        zero=dtype(0),
        half=dtype(0.5),
        one=dtype(1),
        two=dtype(2),
        three=dtype(3),
        unit=dtype(2.0**-32),
        spare_bits=np.uint32(9 if single else 0),
        uniform_step=dtype(2.0**-23 if single else 2.0**-32),
        leaky_slope=dtype(0.01),
        byte=dtype(255),
        log_two=dtype(np.log(2.0)),
        log_two_high=dtype(high),
        log_two_low=dtype(low),
        inverse_log_two=dtype(1 / np.log(2.0)),
        rounder=rounder,
        rounder_bits=rounder.view(integer),
        root_half_bits=dtype(np.sqrt(0.5)).view(integer),
        mantissa_bits=integer(mantissa_bits),
        exponent_bias=integer(127 if single else 1023),
        lowest_exponent=dtype(range_[0]),
        highest_exponent=dtype(range_[1]),
        saturation=dtype(range_[2]),
        root_two_less_one=dtype(np.sqrt(2.0) - 1),
        **{name: tuple(dtype(text) for text in texts) for name, texts in polynomials.items()},
    )


FLOAT32 = _constants(
    np.float32,
    (-104.0, 89.0, 20.0),
    log=("0.66666687", "0.3998878", "0.2957995"),
    sine=("1.5707964", "-0.6459635", "0.07968022", "-0.004602149"),
    cosine=("1.0", "-1.2337005", "0.2536692", "-0.02086007", "0.00090362807"),
    expm1=("0.5", "0.16666667", "0.041666467", "0.0083333105", "0.0013933642", "0.00019890981"),
)
FLOAT64 = _constants(
    np.float64,
    (-746.0, 710.0, 40.0),
    log=(
        "0.666666666666667",
        "0.39999999999899505",
        "0.28571428625975487",
        "0.2222221113479508",
        "0.18182889125261723",
        "0.15331721600556042",
        "0.14616449685043406",
    ),
    sine=(
        "1.5707963267948966",
        "-0.6459640975062443",
        "0.07969262624604301",
        "-0.004681754132340976",
        "0.0001604411507421909",
        "-3.59864335298231e-06",
        "5.633933781537854e-08",
    ),
    cosine=(
        "1.0",
        "-1.2337005501361697",
        "0.2536695079010467",
        "-0.02086348076331121",
        "0.0009192602741831558",
        "-2.520203677046026e-05",
        "4.710609726757823e-07",
        "-6.321256869628588e-09",
    ),
    expm1=(
        "0.5",
        "0.1666666666666667",
        "0.04166666666666667",
        "0.008333333333326141",
        "0.0013888888888883752",
        "0.00019841269874800493",
        "2.4801587325533363e-05",
        "2.7557255425746435e-06",
        "2.7557273661348637e-07",
        "2.510520637395701e-08",
        "2.0914679376583935e-09",
    ),
)


def constants_for(value: Any) -> Constants:
    """Return the constants in the precision of `value`."""
    return FLOAT32 if value.dtype == np.float32 else FLOAT64
