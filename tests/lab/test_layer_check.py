"""Other people's layers and functions: right ones pass, wrong ones are named, bad ones get a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.lab.gradcheck import check_gradients
from scratchvae.layers.activations import ACTIVATIONS
from tests.models.cases import assert_refused

# --- layers that are not ours -----------------------------------------------------------------------------


def layer_norm(x, gain, bias):
    centred = x - x.mean(axis=1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    return gain * centred * scale + bias, (centred * scale, scale, gain)


def layer_norm_backward(dy, cache):
    normal, scale, gain = cache
    dn = dy * gain
    dx = scale * (dn - dn.mean(axis=1, keepdims=True) - normal * (dn * normal).mean(axis=1, keepdims=True))
    return dx, (dy * normal).sum(axis=0), dy.sum(axis=0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, h, c, w, u, b):
    """One step: h and c come out, then the cache, flat as in many hand-written layers."""
    i, f, o, g = np.split(x @ w + h @ u + b, 4, axis=1)
    i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
    new_c = f * c + i * g
    return o * np.tanh(new_c), new_c, (x, h, c, w, u, i, f, o, g, new_c)


def lstm_backward(dh, dc, cache):
    x, h, c, w, u, i, f, o, g, new_c = cache
    t = np.tanh(new_c)
    dc = dc + dh * o * (1 - t**2)
    da = np.hstack([dc * g * i * (1 - i), dc * c * f * (1 - f), dh * t * o * (1 - o), dc * i * (1 - g**2)])
    return da @ w.T, da @ u.T, dc * f, x.T @ da, h.T @ da, da.sum(axis=0)


def softmax_loss(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels].mean()


def softmax_gradient(logits, labels):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    return p / len(labels)


def norm_inputs(rng):
    return {"x": rng.standard_normal((5, 4)), "gain": rng.standard_normal(4), "bias": rng.standard_normal(4)}


def lstm_inputs(rng, size=3):
    shapes = {
        "x": (4, 2),
        "h": (4, size),
        "c": (4, size),
        "w": (2, 4 * size),
        "u": (size, 4 * size),
        "b": (4 * size,),
    }
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def check_norm(rng, change=lambda d: d, **settings):
    return check_gradients(
        layer_norm,
        backward=lambda dy, cache: change(layer_norm_backward(dy, cache)),
        inputs=norm_inputs(rng),
        **settings,
    )


# --- right ones pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(100))
def test_right_layers_pass_for_every_seed(seed):
    rng = np.random.default_rng(seed)
    name = list(ACTIVATIONS)[seed % len(ACTIVATIONS)]
    activation = ACTIVATIONS[name]
    reports = [
        check_gradients(layer_norm, backward=layer_norm_backward, inputs=norm_inputs(rng), rng=seed),
        check_gradients(lstm, backward=lstm_backward, inputs=lstm_inputs(rng, 2), max_entries=3, rng=seed),
        check_gradients(
            softmax_loss,
            gradient=softmax_gradient,
            inputs=[rng.standard_normal((3, 4)), rng.integers(0, 4, 3)],
        ),
        check_gradients(
            activation.forward,
            backward=activation.backward,
            inputs=[3 * rng.standard_normal((2, 5))],
            rng=seed,
        ),
    ]
    assert all(report.passed for report in reports), "\n\n".join(map(str, reports))


def test_shapes_of_answers_are_mirrored(rng):
    inputs = lstm_inputs(rng)

    def nested(*arguments):
        h, c, cache = lstm(*arguments)
        return (h, c), cache

    def by_name(dy, cache):
        return dict(zip(inputs, lstm_backward(*dy, cache), strict=True))

    for forward, backward in ((lstm, lstm_backward), (nested, by_name)):
        report = check_gradients(forward, backward=backward, inputs=inputs)
        assert report.passed, report
        assert [tensor.name for tensor in report.tensors] == list(inputs)
        assert max(tensor.complex_step_error for tensor in report.tensors) < 1e-14

    def without_cache(x, scale):
        return x * scale

    report = check_gradients(
        without_cache, backward=lambda dy, x, s: (dy * s, (dy * x).sum()), inputs=[np.ones((2, 3)), 0.7]
    )
    assert report.passed, report
    assert [tensor.size for tensor in report.tensors] == [6, 1]


def test_inputs_without_a_gradient_are_left_alone(rng):
    def pick(table, rows, noise, label):
        assert rows.dtype == np.int64
        assert label == "a word"
        return table[rows] + noise, (table, rows)

    def pick_backward(dy, cache):
        dtable = np.zeros_like(cache[0])
        np.add.at(dtable, cache[1], dy)
        return dtable

    inputs = {
        "table": rng.standard_normal((4, 2)),
        "rows": np.array([0, 0, 3]),
        "noise": np.ones((3, 2)),
        "label": "a word",
    }
    for settings, back in (
        ({"constant": ["noise"]}, pick_backward),
        ({}, lambda dy, cache: (pick_backward(dy, cache), None, None, None)),
    ):
        report = check_gradients(pick, backward=back, inputs=inputs, **settings)
        assert report.passed, report
        assert [tensor.name for tensor in report.tensors] == ["table"]
        assert any(note.endswith(("rows, label, noise", "rows, noise, label")) for note in report.notes)


def test_a_forward_without_complex_numbers_is_judged_by_differences_and_it_is_said(rng):
    def var_norm(x, gain, bias):
        scale = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        normal = (x - x.mean(axis=1, keepdims=True)) * scale
        return gain * normal + bias, (normal, scale, gain)

    report = check_gradients(var_norm, backward=layer_norm_backward, inputs=norm_inputs(rng))
    assert report.passed, report
    x, gain, _ = report.tensors
    assert x.complex_step_error is None
    assert gain.complex_step_error < 1e-14
    assert "the complex step is not used for x" in str(report)
    wrong = check_gradients(
        var_norm,
        backward=lambda dy, c: (1 + 1e-9) * layer_norm_backward(dy, c)[0],
        inputs=norm_inputs(rng),
        constant=("gain", "bias"),
    )
    assert not wrong.passed, "sharper than the usual tolerance where differences allow it"


def test_directions_replace_entries_where_there_are_too_many(rng):
    inputs = [rng.standard_normal((60, 200)), rng.standard_normal((200, 50))]

    def product(x, w):
        return np.tanh(x @ w), (x, w, np.tanh(x @ w))

    def product_backward(dy, cache):
        x, w, y = cache
        dy = dy * (1 - y**2)
        return dy @ w.T, x.T @ dy

    report = check_gradients(product, backward=product_backward, inputs=inputs)
    assert report.passed, report
    assert [tensor.directions for tensor in report.tensors] == [8, 8]
    assert "22,000 entries are too many" in str(report)

    def wrong(dy, cache):
        dx, dw = product_backward(dy, cache)
        dw[17, 3] *= 1.00001
        return dx, dw

    report = check_gradients(product, backward=wrong, inputs=inputs, directions=2)
    x, w = report.tensors
    assert x.passed
    assert not w.passed
    assert w.worst_index == (17, 3), "halving the direction finds the entry"
    assert w.diagnosis == "a constant factor 1.00001 in the entry (17, 3) alone"
    again = check_gradients(product, backward=wrong, inputs=inputs, tensor="w", index=(17, 3))
    assert again.tensors[0].analytic == w.analytic
    assert not again.passed


# --- wrong ones are named ---------------------------------------------------------------------------------

WRONG = {
    "factor": (lambda d: (1.00001 * d[0], d[1], d[2]), "x", "a constant factor 1.00001"),
    "n − 1": (lambda d: (d[0], d[1] * 5 / 4, d[2]), "gain", "5/4: n − 1"),
    "sign": (lambda d: (d[0], d[1], -d[2]), "bias", "the sign"),
    "one entry": (
        lambda d: (d[0] * np.where(np.arange(20).reshape(5, 4) == 7, 1 + 1e-7, 1), *d[1:]),
        "x",
        "in the entry (1, 3) alone",
    ),
    "float32": (lambda d: (d[0].astype(np.float32).astype(np.float64), *d[1:]), "x", "float32"),
    "missing": (lambda d: (d[0], d[1], 0 * d[2]), "bias", "a missing term: zero everywhere"),
    "mean": (lambda d: (d[0], d[1] / 5, d[2]), "gain", "a mean instead of a sum over 5"),
}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_gradient_is_named_at_every_scale(rng, what, scale):
    change, name, words = WRONG[what]
    cotangent = scale * rng.standard_normal((5, 4))
    assert check_norm(rng, cotangent=cotangent).passed
    report = check_norm(rng, change, cotangent=cotangent)
    (wrong,) = (tensor for tensor in report.tensors if not tensor.passed)
    assert wrong.name == name
    assert words in wrong.diagnosis
    assert wrong.complex_step == pytest.approx(wrong.finite_difference, rel=1e-8)
    told = str(report)
    for text in (
        f"{name}[",
        f"{wrong.analytic:.15g}",
        f"{wrong.complex_step:.15g}",
        "relative",
        "seed 0",
        wrong.diagnosis,
    ):
        assert text in told
    assert f"tensor={name!r}, index={wrong.worst_index}, rng=0)" in told
    with pytest.raises(AssertionError, match="FAILED"):
        report.raise_if_failed()


def test_a_threshold_is_found_by_the_scale_of_the_cotangent(rng):
    report = check_norm(rng, lambda d: tuple(np.where(np.abs(g) < 1e-3, 0, g) for g in d))
    assert not report.passed
    assert {tensor.way for tensor in report.tensors if not tensor.passed} == {"for a cotangent times 0.001"}


@pytest.mark.parametrize(
    ("backward", "words"),
    [
        (lambda dy, y: dy + 1e-6, "where the cotangent is zero; expected exactly zero"),
        (lambda dy, y: dy * np.abs(dy), "is not linear in the cotangent"),
        (lambda dy, y: dy.astype(np.float32), "returns float32 for 'x'"),
        (lambda dy, y: np.sign(dy), "is not linear"),
    ],
    ids=["constant", "quadratic", "float32", "sign"],
)
def test_what_else_a_backward_pass_must_be(rng, backward, words):
    report = check_gradients(lambda x: (1.0 * x, None), backward=backward, inputs=[rng.standard_normal(5)])
    assert not report.passed
    assert any(words in problem for problem in report.problems), report.problems


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: np.sin(x.astype(np.float32)).astype(np.float64),
        lambda x: np.sin(x).astype(np.float32).astype(np.float64),
        lambda x: np.sin(x).astype(np.float32),
    ],
    ids=["input", "output", "dtype"],
)
def test_a_float32_in_the_forward_pass_is_named(rng, forward):
    report = check_gradients(forward, backward=lambda dy, x: dy * np.cos(x), inputs=[rng.standard_normal(5)])
    assert not report.passed
    assert any("float32" in problem for problem in report.problems), report


def test_a_float32_in_the_cache_is_named(rng):
    def forward(x):
        return np.sin(x), {"x": x.astype(np.float32)}

    def backward(dy, cache):
        return (dy.astype(np.float32) * np.cos(cache["x"])).astype(np.float64)

    report = check_gradients(forward, backward=backward, inputs=[rng.standard_normal(5)])
    assert not report.passed
    assert any("float32 (cache['x'])" in problem for problem in report.problems), report


# --- what no oracle can judge -----------------------------------------------------------------------------


def test_any_slope_is_right_at_a_kink_and_it_is_counted(rng):
    x = np.array([0.0, 0.0, 1.0, -2.0])
    for slope in (0.0, 0.3, 1.0):
        report = check_gradients(
            lambda x: np.maximum(x, 0),
            backward=lambda dy, x, s=slope: dy * np.where(x == 0, s, x > 0),
            inputs=[x],
        )
        assert report.passed, report
        assert report.tensors[0].inconclusive == 2
    report = check_gradients(
        lambda x: np.maximum(x, 0), backward=lambda dy, x: dy * np.where(x == 0, 1.5, x > 0), inputs=[x]
    )
    assert not report.passed
    assert report.tensors[0].worst_index in ((0,), (1,))


def test_what_no_oracle_can_judge_has_not_passed(rng):
    # A gradient that is zero as a sum of numbers that are not, of which nothing is left but rounding, is no mistake.
    def shifted(x, shift):
        p = np.exp(x + shift)
        return p / p.sum()

    def gradient(dy, x, shift):
        p = shifted(x, shift)
        dx = p * (dy - (dy * p).sum())
        return dx, dx.sum()

    report = check_gradients(shifted, backward=gradient, inputs=[rng.standard_normal(6), 0.3])
    dx, dshift = report.tensors
    assert dx.passed
    if dshift.analytic != 0:
        assert dshift.verdict == "ok: zero but for rounding"
    all_at_kinks = check_gradients(np.abs, backward=lambda dy, x: 0.0 * dy, inputs=[np.zeros(3)])
    assert not all_at_kinks.passed
    assert "UNDECIDED" in str(all_at_kinks)


# --- where an oracle knows little -------------------------------------------------------------------------


def normed(x, mask):
    """With np.var, which takes |x|² of complex numbers: the complex step gives what a backward pass without it does."""
    scale = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-8)
    normal = (x - x.mean(axis=1, keepdims=True)) * scale
    return normal * mask, (normal, scale, mask)


def normed_backward(dy, cache, of_variance=1):
    normal, scale, mask = cache
    dn = dy * mask
    missing = of_variance * normal * (dn * normal).mean(axis=1, keepdims=True)
    return scale * (dn - dn.mean(axis=1, keepdims=True) - missing), None


def test_zeros_on_which_both_oracles_agree_confirm_nothing(rng):
    # Nearly equal numbers, that large steps see little of; and a masked row of zeros.
    apart = rng.permuted(np.tile([-1.0, -0.6, 0.1, 0.5, 1.2], (4, 1)), axis=1)
    inputs = {"x": 1 + 1e-3 * apart, "mask": np.array([[1.0], [1], [1], [0]])}
    assert check_gradients(normed, backward=normed_backward, inputs=inputs).passed
    forgotten = check_gradients(normed, backward=lambda dy, c: normed_backward(dy, c, 0), inputs=inputs)
    assert not forgotten.passed


def flat_far_away(x):
    return np.stack([1e4 * x[0], np.tanh(x[1])]), x


def shifted_absolute(x):
    return np.abs(x) + np.array([0, 0, 1.6e9, 1.6e9]), x


LITTLE_KNOWN = {
    "hidden by a large constant": (lambda x: 1e6 + np.sin(x).sum(), np.cos, np.ones(6)),
    "at a kink": (
        lambda x: np.abs(x).sum(),
        lambda x: np.where(x == 0, 0.3, np.sign(x)),
        np.array([0.0, 1, 2]),
    ),
    "of very different sizes": (
        lambda x: x[0] + 1e20 * x[1] ** 2,
        lambda x: np.array([1, 2e20 * x[1]]),
        np.array([1, 1e-20]),
    ),
    "tiny beside another": (
        lambda x: (x * np.log(x)).sum(),
        lambda x: np.log(x) + 1,
        np.array([1e-30, 0.5, 0.5]),
    ),
    "at the edge of the domain": (lambda p: np.log(p).sum(), lambda p: 1 / p, np.array([1e-8, 0.5, 0.9])),
    "near an optimum": (
        lambda x: 7 + ((x - 1) ** 2).sum(),
        lambda x: 2 * (x - 1),
        1 + 1e-5 * np.arange(1, 4),
    ),
}


@pytest.mark.parametrize("case", LITTLE_KNOWN)
def test_right_gradients_pass_where_differences_know_little_and_wrong_ones_do_not(case):
    f, df, x = LITTLE_KNOWN[case]
    assert check_gradients(f, gradient=df, inputs=[x]).passed
    for place in range(len(x)):
        wrong = np.ones(len(x))
        wrong[place] = 50 if case == "at a kink" else 2
        report = check_gradients(f, gradient=lambda x, df=df, wrong=wrong: df(x) * wrong, inputs=[x])
        assert not report.passed, (place, str(report))


@pytest.mark.parametrize("factor", [1, -1, 0, 1000])
def test_what_nobody_can_decide_must_still_lie_where_differences_allow(factor):
    report = check_gradients(
        shifted_absolute,
        backward=lambda dy, x: dy * np.sign(x) * np.array([1, 1, 1, factor]),
        inputs=[np.array([1.0, -2, 3, -4])],
    )
    assert report.passed == (factor == 1)
    if report.passed:
        assert report.tensors[0].verdict == "ok: 2 undecided"
        assert report.tensors[0].compared == "2 of 4"


@pytest.mark.parametrize("factor", [0, 1])
def test_large_steps_that_agree_on_nothing_do_not_overrule_the_complex_step(factor):
    report = check_gradients(
        flat_far_away,
        backward=lambda dy, x: np.stack([1e4 * dy[0], factor * (1 - np.tanh(x[1]) ** 2) * dy[1]]),
        inputs=[np.array([1e10, 0.3])],
    )
    assert report.passed == (factor == 1)


def test_gradients_that_are_zero_but_for_rounding(rng):
    def batch_norm(x, bias):
        centred = x + bias - (x + bias).mean(axis=0)
        scale = 1 / np.sqrt((centred**2).mean(axis=0) + 1e-5)
        return centred * scale, (centred * scale, scale)

    def backward(dy, cache, of_bias=None):
        normal, scale = cache
        dx = scale * (dy - dy.mean(axis=0) - normal * (dy * normal).mean(axis=0))
        return dx, dx.sum(axis=0) if of_bias is None else of_bias(dy)

    inputs = [rng.standard_normal((6, 4)), rng.standard_normal(4)]
    report = check_gradients(batch_norm, backward=backward, inputs=inputs)
    assert report.passed, report
    assert report.tensors[1].verdict == "ok: zero but for rounding"
    exactly = check_gradients(
        batch_norm, backward=lambda dy, c: backward(dy, c, lambda dy: np.zeros(4)), inputs=inputs
    )
    assert exactly.passed, exactly
    wrong = check_gradients(
        batch_norm, backward=lambda dy, c: backward(dy, c, lambda dy: dy.sum(axis=0)), inputs=inputs
    )
    assert not wrong.passed


@pytest.mark.parametrize("factor", [1, 2])
def test_what_differences_see_nothing_of_the_complex_step_decides_alone(factor):
    def gradient(x):
        return factor * 1e-10 * np.cos(x)

    report = check_gradients(lambda x: 1e4 + 1e-10 * np.sin(x).sum(), gradient=gradient, inputs=[np.ones(4)])
    assert report.passed == (factor == 1), report
    assert ("by the complex step alone" if factor == 1 else "WRONG") in report.tensors[0].verdict
    assert "x" in str(report)


def test_a_gradient_that_is_zero_everywhere_is_told():
    report = check_gradients(
        lambda s: np.maximum(0, 1 - s).sum(),
        gradient=lambda s: np.where(s < 1, 5.0, 0),
        inputs=[np.array([2.0, 3])],
    )
    assert report.passed
    assert "the gradient of s is exactly zero everywhere here" in str(report)
    at_the_limit = check_gradients(
        lambda x: np.cos(x).sum(), gradient=lambda x: -np.sin(x), inputs=[np.zeros(3)]
    )
    assert at_the_limit.passed


def test_a_tensor_too_large_for_directions_is_looked_at_in_places(rng):
    x = rng.standard_normal(30_000)
    for factor in (2, 2.1):
        report = check_gradients(
            lambda x: (2 * np.abs(x), x), backward=lambda dy, x, k=factor: k * np.sign(x) * dy, inputs=[x]
        )
        assert report.passed == (factor == 2)


def cross_entropy(x):
    """Of classes along the diagonal, as everybody writes it: numbers as large as the logits cancel."""
    top = x.max(axis=1, keepdims=True)
    p = np.exp(x - top)
    total = p.sum(axis=1, keepdims=True)
    return (np.log(total)[:, 0] + top[:, 0] - np.diag(x)).mean(), p / total


def cross_entropy_backward(dy, p):
    others = p * (1 - np.eye(len(p)))
    return dy * (others - np.diag(others.sum(axis=1))) / len(p)  # p − 1 would cancel in its turn


@pytest.mark.parametrize("margin", [5, 10, 15])
def test_rounding_within_the_forward_pass_is_not_held_against_the_gradient(margin):
    for seed in range(5):
        x = margin * np.eye(5) + np.random.default_rng(seed).standard_normal((5, 5))
        report = check_gradients(cross_entropy, backward=cross_entropy_backward, inputs=[x], rng=seed)
        assert report.passed, report
        wrong = check_gradients(
            cross_entropy, backward=lambda dy, p: 1.00001 * cross_entropy_backward(dy, p), inputs=[x]
        )
        assert not wrong.passed


@pytest.mark.parametrize("margin", [20, 25])
def test_where_the_oracles_round_as_much_nothing_is_called_wrong_to_the_last_digits(margin):
    # Outputs of 1e-8 and 1e-11, rounded like the logits that they are differences of.
    x = margin * np.eye(5) + 0.3 * np.random.default_rng(0).standard_normal((5, 5))
    (check,) = check_gradients(cross_entropy, backward=cross_entropy_backward, inputs=[x], rng=0).tensors
    assert "exactly zero" not in check.diagnosis
    assert "factor" not in check.diagnosis
    assert margin > 20 or "UNDECIDED" in check.verdict
    (wrong,) = check_gradients(
        cross_entropy, backward=lambda dy, p: 2 * cross_entropy_backward(dy, p), inputs=[x], rng=0
    ).tensors
    assert "WRONG" in wrong.verdict


def test_a_zero_is_not_right_because_differences_see_nothing():
    def vanishing(x):
        return 1 + 1e-17 * np.sin(x).sum()

    assert check_gradients(vanishing, gradient=lambda x: 1e-17 * np.cos(x), inputs=[np.ones(3)]).passed
    assert not check_gradients(vanishing, gradient=lambda x: 0 * x, inputs=[np.ones(3)]).passed


@pytest.mark.parametrize("seed", range(5))
def test_a_kink_next_to_the_point_is_no_float32(seed):
    rng = np.random.default_rng(seed)
    x = np.where(np.arange(12) % 3 == 0, 1e-9, 1.0) * rng.standard_normal(12)
    report = check_gradients(
        lambda x: np.maximum(x, 0), backward=lambda dy, x: dy * (x > 0), inputs=[x], rng=seed
    )
    assert report.passed, report


@pytest.mark.parametrize("least", [15, 20])
def test_digits_that_cancel_in_backward_are_no_float32(rng, least):
    def sigmoid(x):
        s = 1 / (1 + np.exp(-x))
        return s, s

    x = least + rng.random((3, 4))
    report = check_gradients(sigmoid, backward=lambda dy, s: dy * s * (1 - s), inputs=[x])
    assert not report.passed
    assert "looks like: rounding: numbers cancel in backward" in str(report)
    twice = check_gradients(sigmoid, backward=lambda dy, s: 2 * dy * s * (1 - s), inputs=[x])
    assert "rounding: numbers cancel" not in str(twice)


# --- state ------------------------------------------------------------------------------------------------


def squares(x):
    return np.sin(x * x), (x * x, x)


def overwriting(dy, cache):
    np.cos(cache[0], out=cache[0])
    return dy * cache[0] * 2 * cache[1]


def sharing():
    buffer = np.empty((3, 4))

    def forward(x):
        np.multiply(x, x, out=buffer)
        return np.sin(buffer), (buffer, x)

    return forward, lambda dy, cache: dy * np.cos(cache[0]) * 2 * cache[1]


@pytest.mark.parametrize("layer", [lambda: (squares, overwriting), sharing], ids=["overwritten", "shared"])
def test_a_cache_that_does_not_keep_is_found(rng, layer):
    forward, backward = layer()
    report = check_gradients(forward, backward=backward, inputs=[rng.standard_normal((3, 4))])
    assert not report.passed
    assert all(tensor.passed for tensor in report.tensors)
    assert "the cache is changed, or shared between calls" in report.problems[0]


def test_what_changes_only_later_is_found(rng):
    calls = 0

    def later(dy, x):
        nonlocal calls
        calls += 1
        return dy * np.cos(x) * (1 if calls < 8 else 1.1)

    noise = np.random.default_rng(0)
    reused = np.empty((3, 4))

    def noisy(x):
        np.add(np.sin(x), 1e-12 * noise.standard_normal(x.shape), out=reused)
        return reused, x

    for forward, backward in ((lambda x: (np.sin(x), x), later), (noisy, lambda dy, x: dy * np.cos(x))):
        with pytest.raises(ValueError, match="is not deterministic"):
            check_gradients(forward, backward=backward, inputs=[rng.standard_normal((3, 4))])


@pytest.mark.skipif(np.finfo(np.longdouble).nmant == 52, reason="a longdouble is a float64 here")
def test_a_longdouble_is_told_as_what_it_is(rng):
    # Its bytes hold some that are no part of its number, and differ from call to call.
    x = rng.standard_normal((30, 40))
    for forward, backward in (
        (lambda x: (np.sin(x).astype(np.longdouble), x), lambda dy, x: dy * np.cos(x)),
        (lambda x: (np.sin(x), x), lambda dy, x: (dy * np.cos(x)).astype(np.longdouble)),
    ):
        report = check_gradients(forward, backward=backward, inputs=[x], max_entries=3)
        assert not report.passed
        assert f"{np.dtype(np.longdouble)}" in " ".join(report.problems)


def test_what_is_to_be_called_again_has_names_that_can_be_typed():
    report = check_gradients(
        lambda x: (np.sin(x), x), backward=lambda dy, x: 2 * dy * np.cos(x), inputs=[np.ones(2)]
    )
    compile(report.rerun(report.tensors[0]), "again", "eval")


# --- bad input gets a sentence ----------------------------------------------------------------------------

DICE = np.random.default_rng(0)


def changes_input(x):
    x *= 2
    return x.copy(), None


def refusing(forward, backward=lambda dy, cache: dy, inputs=None):
    return lambda: check_gradients(
        forward, backward=backward, inputs=[np.ones(3)] if inputs is None else inputs
    )


def of_gradient(f, gradient=lambda x: x, inputs=None):
    return lambda: check_gradients(f, gradient=gradient, inputs=[np.ones(3)] if inputs is None else inputs)


def fine(x):
    return 2 * x, None


def two(x, weight):
    return x * weight, None


TWO = {"x": np.ones(3), "weight": np.ones(3)}

BAD = {
    "not deterministic": (
        refusing(lambda x: (x + DICE.random(), None)),
        ValueError,
        "is not deterministic: called twice … differ by up to",
    ),
    "other shapes": (
        refusing(lambda x: (np.ones(DICE.integers(1, 10**9) % 1000 + 1), None)),
        ValueError,
        "other shapes when called again",
    ),
    "backward not deterministic": (
        refusing(fine, lambda dy, c: dy * DICE.random()),
        ValueError,
        "backward is not deterministic … 'x'",
    ),
    "changes its input": (
        refusing(changes_input),
        ValueError,
        "changes_input changes its input 'x' in place",
    ),
    "changes the cotangent": (
        refusing(fine, lambda dy, c: np.multiply(dy, 2, out=dy)),
        ValueError,
        "changes the cotangent in place",
    ),
    "changes the input on the way back": (
        refusing(lambda x: (2 * x, x), lambda dy, x: np.multiply(dy, 2, out=x)),
        ValueError,
        "backward changes its input 'x' in place",
    ),
    "integers": (
        refusing(lambda x: (np.arange(3), None)),
        TypeError,
        "returns int64 numbers, expected float64",
    ),
    "complex": (refusing(lambda x: (x + 1j, None)), TypeError, "returns complex numbers for real inputs"),
    "NaN": (
        refusing(lambda x: (x * np.array([1, np.nan, 1]), None)),
        ValueError,
        "returns nan at index (1,), expected finite",
    ),
    "nothing": (refusing(lambda x: None), TypeError, "returns a NoneType, expected an array"),
    "a list": (refusing(lambda x: ([1.0], None)), TypeError, "returns a list, expected an array"),
    "no number": (
        of_gradient(lambda x: x**2),
        ValueError,
        "returns an array of shape (3,), expected one number",
    ),
    "gradient's shape": (
        refusing(fine, lambda dy, c: dy[:2]),
        ValueError,
        "returns for 'x' a gradient of shape (2,), expected (3,)",
    ),
    "gradient's dtype": (
        refusing(fine, lambda dy, c: np.arange(3)),
        TypeError,
        "for 'x' int64 numbers, expected float64",
    ),
    "complex gradient": (refusing(fine, lambda dy, c: dy + 0j), TypeError, "for 'x' complex numbers"),
    "gradient with NaN": (refusing(fine, lambda dy, c: dy * np.nan), ValueError, "for 'x' nan at index (0,)"),
    "no gradient": (refusing(fine, lambda dy, c: None), ValueError, "returns None for every input"),
    "too few gradients": (
        refusing(two, inputs=TWO),
        ValueError,
        "returns 1 gradient for the 2 inputs x, weight; expected one for each",
    ),
    "too many gradients": (
        refusing(two, lambda dy, c: (dy,) * 3, TWO),
        ValueError,
        "returns 3 gradients for the 2 inputs",
    ),
    "unknown names": (
        refusing(two, lambda dy, c: {"x": dy, "w": dy}, TWO),
        ValueError,
        "by the names x, w, expected x, weight",
    ),
    "gradient of integers": (
        refusing(lambda x, i: (x[i], None), lambda dy, c: (dy, dy), [np.ones(3), np.arange(3)]),
        ValueError,
        "returns a gradient for 'i', which",
    ),
    "nothing to differentiate": (
        refusing(fine, inputs=[np.arange(3)]),
        ValueError,
        "inputs has nothing to differentiate",
    ),
    "empty inputs": (refusing(fine, inputs=[]), ValueError, "inputs is empty"),
    "inputs of one array": (
        refusing(fine, inputs=np.ones(3)),
        TypeError,
        "inputs is of type ndarray, expected a dict",
    ),
    "NaN in inputs": (
        refusing(fine, inputs=[np.full(3, np.nan)]),
        ValueError,
        "inputs['x'] has the value nan at index (0,)",
    ),
    "complex inputs": (
        refusing(fine, inputs=[np.ones(3) + 0j]),
        TypeError,
        "inputs['x'] has dtype complex128",
    ),
    "both": (
        lambda: check_gradients(fine, backward=fine, gradient=fine, inputs=[1.0]),
        TypeError,
        "expected one of backward= … got both",
    ),
    "neither": (
        lambda: check_gradients(fine, inputs=[1.0]),
        TypeError,
        "expected one of backward= … got neither",
    ),
    "no inputs": (lambda: check_gradients(fine, backward=fine), TypeError, "inputs is missing"),
    "x of a function": (
        lambda: check_gradients(fine, np.ones(3), backward=fine),
        TypeError,
        "x belongs to a model",
    ),
    "index without tensor": (
        lambda: check_gradients(fine, backward=fine, inputs=[1.0], index=(0,)),
        ValueError,
        "index is (0,) without a tensor",
    ),
    "unknown tensor": (
        lambda: check_gradients(fine, backward=lambda dy, c: 2 * dy, inputs=[1.0], tensor="y"),
        ValueError,
        "tensor is 'y', expected one of: x",
    ),
    "index outside": (
        lambda: check_gradients(
            fine, backward=lambda dy, c: 2 * dy, inputs=[np.ones(2)], tensor="x", index=(2,)
        ),
        ValueError,
        "index is (2,), expected one within the tensor's shape (2,)",
    ),
    "entries and directions": (
        lambda: check_gradients(fine, backward=fine, inputs=[1.0], directions=2, max_entries=3),
        ValueError,
        "directions is 2 and entries",
    ),
    "cotangent's shape": (
        lambda: check_gradients(
            fine, backward=lambda dy, c: 2 * dy, inputs=[np.ones(2)], cotangent=np.ones(3)
        ),
        ValueError,
        "cotangent has shape (3,), expected (2,)",
    ),
    "too few inputs": (
        refusing(two, inputs=[np.ones(3)]),
        TypeError,
        "two takes (x, weight), expected to be called with (x): missing",
    ),
    "an argument by keyword alone": (
        refusing(lambda x, *, eps: (x + eps, None), inputs={"x": np.ones(3), "eps": 1.0}),
        TypeError,
        "takes (x, *, eps), expected to be called with (x, eps): too many",
    ),
    "a layer that keeps its cache": (
        refusing(lambda x: 2 * x, lambda dy: 2 * dy),
        TypeError,
        "backward takes (dy), expected to be called with (dy, x) … return (y, cache), where cache may be None",
    ),
    "two outputs and no cache": (
        refusing(lambda x: (x, 2 * x), lambda da, db, x: da + 2 * db),
        TypeError,
        "expected to be called with (dy, cache) … returns last is the cache",
    ),
    "a gradient of fewer arguments": (
        of_gradient(lambda x, y: (x * y).sum(), lambda x: x, [np.ones(3), np.ones(3)]),
        TypeError,
        "gradient takes (x), expected to be called with (x, y)",
    ),
    "no entries": (refusing(fine, inputs=[np.ones((0, 3))]), ValueError, "x has no entries"),
    "constant's name": (
        lambda: check_gradients(fine, backward=fine, inputs=[np.ones(2)], constant="noise"),
        ValueError,
        "constant is 'noise', expected one of: x",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gets_a_sentence(what):
    call, error, words = BAD[what]
    assert_refused(error, words, call)
