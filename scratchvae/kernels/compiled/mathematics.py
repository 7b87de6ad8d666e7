# mypy: ignore-errors
# (numba hands around objects that its type hints do not know.)
"""Elementary functions as short polynomials without branches, so that loops over them vectorise.

A call to the mathematics library stops a loop from being computed eight or sixteen numbers at a time, which costs
ten times more than the function itself. These are inlined into the kernels, and work in the precision of their
argument. Derived in `derivations/09-philox.md`; the errors, in units in the last place, are measured in
`tests/kernels/test_mathematics.py`.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic, overload, register_jitable

from scratchvae.kernels.polynomials import FLOAT32, FLOAT64, constants_for

__all__ = [
    "convert",
    "exp",
    "expm1",
    "inline",
    "log",
    "log1p",
    "polynomial",
    "reinterpret",
    "sigmoid",
    "sine_and_cosine",
    "softplus",
    "tanh",
]

# Left to itself the compiler finds these too long to inline into loops, which then do not vectorise.
inline = register_jitable(forceinline=True)

_SAME_BITS = {
    types.float32: types.int32,
    types.float64: types.int64,
    types.int32: types.float32,
    types.int64: types.float64,
}


@overload(constants_for)
def _constants_for(value):
    constants = FLOAT32 if value == types.float32 else FLOAT64
    return lambda value: constants


@intrinsic
def reinterpret(typing_context: Any, value: Any) -> Any:
    """The integer that has the bits of a floating-point number, or the other way round."""
    result = _SAME_BITS[value]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return result(value), generate


@intrinsic
def convert(typing_context: Any, value: Any, like: Any) -> Any:
    """`value` as a number of the type of `like`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[0], signature.args[0], signature.return_type)

    return like(value, like), generate


@intrinsic
def polynomial(typing_context: Any, x: Any, coefficients: Any) -> Any:
    """Sum of coefficients[i] xⁱ by Horner's rule; a loop over a tuple would not be unrolled in time."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, coefficients = arguments
        *lower, value = (builder.extract_value(coefficients, i) for i in range(len(signature.args[1])))
        for coefficient in reversed(lower):
            value = builder.fadd(builder.fmul(value, x), coefficient)
        return value

    return x(x, coefficients), generate


@inline
def log(u: Any) -> Any:
    """Natural logarithm of a positive normal number: u = 2ᵉ m with m in [√½, √2). (9.8)"""
    c = constants_for(u)
    bits = reinterpret(u)
    exponent = convert((bits - c.root_half_bits) >> c.mantissa_bits, bits)
    m = reinterpret(convert(bits - (exponent << c.mantissa_bits), bits))
    s = (m - c.one) / (m + c.one)
    return convert(exponent, u) * c.log_two + (c.two * s + s * (s * s) * polynomial(s * s, c.log))


@inline
def sine_and_cosine(x: Any) -> Any:
    """sin(πx/2) and cos(πx/2) for |x| ≤ ½. (9.9)"""
    c = constants_for(x)
    return x * polynomial(x * x, c.sine), polynomial(x * x, c.cosine)


@inline
def _reduce(x: Any) -> Any:
    # x = k log 2 + r with |r| ≤ ½ log 2; returns k and expm1(r). (9.10)
    c = constants_for(x)
    shifted = x * c.inverse_log_two + c.rounder
    k = convert(reinterpret(shifted) - c.rounder_bits, c.rounder_bits)
    nearest = shifted - c.rounder
    r = x - nearest * c.log_two_high - nearest * c.log_two_low
    return k, r + r * r * polynomial(r, c.expm1)


@inline
def _power_of_two(k: Any, like: Any) -> Any:
    c = constants_for(like)
    return reinterpret(convert((k + c.exponent_bias) << c.mantissa_bits, c.rounder_bits))


@inline
def exp(x: Any) -> Any:
    """eˣ for any x, denormal results included. (9.10)"""
    c = constants_for(x)
    x = c.lowest_exponent if x < c.lowest_exponent else x
    x = c.highest_exponent if x > c.highest_exponent else x
    k, rest = _reduce(x)
    # In two steps, for 2ᵏ itself may be no normal number.
    return (c.one + rest) * _power_of_two(k >> 1, x) * _power_of_two(k - (k >> 1), x)


@inline
def expm1(x: Any) -> Any:
    """eˣ − 1 for any x, without cancellation near zero. (9.10)"""
    c = constants_for(x)
    x = -c.saturation - c.saturation if x < -c.saturation - c.saturation else x
    x = c.highest_exponent if x > c.highest_exponent else x
    k, rest = _reduce(x)
    # Half of it first, for 2ᵏ may be too large when the result is not.
    half_power = _power_of_two(k - 1, x)
    return c.two * (half_power * rest + (half_power - c.half))


@inline
def log1p(x: Any) -> Any:
    """log(1 + x) for x in [0, 1], without cancellation near zero. (9.8)"""
    c = constants_for(x)
    above = x > c.root_two_less_one  # then halve 1 + x, so that it lies in [√½, √2]
    s = (x - c.one if above else x) / (x + c.three if above else x + c.two)
    small = c.two * s + s * (s * s) * polynomial(s * s, c.log)
    return small + (c.log_two if above else c.zero)


@inline
def tanh(x: Any) -> Any:
    """Hyperbolic tangent: u / (u + 2) with u = e^(2|x|) − 1, and the sign of x. (9.11)"""
    c = constants_for(x)
    twice = abs(x) * c.two
    u = expm1(c.saturation if twice > c.saturation else twice)
    y = u / (u + c.two)
    return -y if x < c.zero else y


@inline
def sigmoid(x: Any) -> Any:
    """1 / (1 + e⁻ˣ), from e^(−|x|), which cannot overflow. (2.5)"""
    c = constants_for(x)
    decay = exp(-abs(x))
    return (c.one if x >= c.zero else decay) / (c.one + decay)


@inline
def softplus(x: Any) -> Any:
    """log(1 + eˣ) = max(x, 0) + log1p(e^(−|x|)). (2.7)"""
    c = constants_for(x)
    return (c.zero if x < c.zero else x) + log1p(exp(-abs(x)))
