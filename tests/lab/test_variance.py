"""The variance of gradients: draw by draw it is that of `loss_and_gradients`, and for a linear model the exact one."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.stats import chi2
from scipy.stats import t as student

from scratchvae.estimators import make_estimator, measure_valued
from scratchvae.estimators.score_function import ScoreFunction
from scratchvae.lab import variance as module
from scratchvae.lab import variance_blocks as blocks_module
from scratchvae.lab.variance import gradient_variance
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from tests.ledger import Chance
from tests.models.cases import INPUT_DIM, LATENT_DIM, assert_refused, make_case
from tests.oracles import estimators as estimator_oracle
from tests.oracles.complex_step import unchanged
from tests.oracles.quadrature import gauss_hermite_product, weighted_mean

ESTIMATORS = ("pathwise", "score-function", "score-function-running-mean", "score-function-leave-one-out")
LEAVE_ONE_OUT = ESTIMATORS[-1]
# Whose samples depend on each other in the decoder's gradient as well, and how many make one estimate here.
COUPLED = {
    "antithetic-pathwise": 2,
    "antithetic-score-function": 2,
    "antithetic-measure-valued": 2,
    "antithetic-score-function-leave-one-out": 4,
    "importance-weighted-pathwise": 3,
    "importance-weighted-doubly-reparameterized": 3,
    "importance-weighted-vimco": 3,
}
ELSEWHERE = ("measure-valued", "measure-valued-uncoupled", "taylor-pathwise", "taylor-score-function")

# --- draw by draw -----------------------------------------------------------------------------------------


@pytest.fixture
def recorded(monkeypatch):
    """The blocks of noise that are drawn: the first is for estimators to settle, the others are measured."""
    blocks = []
    right = module.standard_normal

    def record(*arguments):
        blocks.append(right(*arguments))
        return blocks[-1]

    monkeypatch.setattr(module, "standard_normal", record)
    return blocks


def values(vae, x, noise):
    """The integrand (S,) of each draw, averaged over the examples: what a running mean learns from."""
    averages = []
    for draw in noise:
        elbo = vae.elbo(x, draw)
        averages.append((elbo.reconstruction - (vae.beta * elbo.kl if vae.kl == "sampled" else 0)).mean())
    return averages


def baselines(vae, x, blocks):
    """The running mean before each draw, block by block, from the definition."""
    everything = [value for block in blocks for value in values(vae, x, block)]
    centred = estimator_oracle.running_mean(everything, 0.95)
    flat = np.array(everything) - np.array(centred)
    return np.split(flat, np.cumsum([len(block) for block in blocks])[:-1])


def by_brute_force(vae, x, name, blocks, group):
    """(blocks, P) variances and the mean (P,), from one call of `loss_and_gradients` per estimate and example.

    The variance of a sum over examples with noise of their own is the sum of the variances.
    """
    constant = baselines(vae, x, blocks) if name.endswith("running-mean") else None
    found, means = [], []
    for index, noise in enumerate(blocks[1:], start=1):
        size = group if name == LEAVE_ONE_OUT or name in COUPLED else 1
        estimates = len(noise) // size
        gradients = np.empty((estimates, len(x), vae.theta.size))
        for e in range(estimates):
            estimator = make_estimator(name)
            if constant is not None:
                estimator = ScoreFunction("constant", lambda value, b=constant[index][e]: value - b)
            for b in range(len(x)):
                vae.loss_and_gradients(x[b : b + 1], noise[e::estimates, b : b + 1], estimator=estimator)
                gradients[e, b] = vae.gradient / len(x)
        found.append(size * gradients.var(axis=0, ddof=1).sum(axis=0))
        means.append(gradients.mean(axis=0).sum(axis=0))
    return np.array(found), np.mean(means, axis=0)


def flat(by_name):
    return np.concatenate([value.ravel() for value in by_name.values()])


def assert_is_brute_force(case, name, result, blocks, group):
    """Means, variances and standard errors of one estimator, for every parameter."""
    vae = case.vae
    encoder = flat({n: np.full(p.shape, n.startswith("encoder")) for n, p in vae.parameters.items()})
    found, mean = by_brute_force(vae, case.x, name, blocks, group)
    if name not in COUPLED:
        # The decoder's gradient is that of single draws, whatever the encoder's estimator compares.
        of_decoder, _ = by_brute_force(vae, case.x, "pathwise", blocks, group)
        found = np.where(encoder, found, of_decoder)
    expected = found
    draws = sum(len(block) for block in blocks[1:])
    assert result.num_samples == draws
    np.testing.assert_allclose(flat(result.mean[name]), mean, rtol=1e-9, atol=1e-12 * np.abs(mean).max())
    spread = expected.mean(axis=0)
    largest = spread.max()
    np.testing.assert_allclose(flat(result.variance[name]), spread, rtol=1e-9, atol=1e-13 * largest)
    np.testing.assert_allclose(
        flat(result.mean_standard_error[name]), np.sqrt(spread / draws), rtol=1e-8, atol=1e-10
    )
    error = expected.std(axis=0, ddof=1) / np.sqrt(len(expected))
    np.testing.assert_allclose(
        flat(result.variance_standard_error[name]), error, rtol=1e-6, atol=1e-8 * largest
    )
    traces = expected.sum(axis=1)
    assert result.total(name) == pytest.approx(traces.mean(), rel=1e-10)
    assert result.total_standard_error(name) == pytest.approx(
        traces.std(ddof=1) / np.sqrt(len(traces)), rel=1e-8
    )
    traces = expected[:, encoder].sum(axis=1)
    assert result.total(name, "encoder") == pytest.approx(traces.mean(), rel=1e-10)
    assert result.total_standard_error(name, "encoder") == pytest.approx(
        traces.std(ddof=1) / np.sqrt(len(traces)), rel=1e-8
    )


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_variance_is_that_of_the_gradient_draw_by_draw(rng, recorded, name, depth, kl):
    case = make_case(rng, depth=depth, kl=kl)
    result = gradient_variance(case.vae, case.x, (name,), num_samples=127, rng=rng, samples_per_estimate=3)
    assert [len(block) for block in recorded] == [6] * 22
    assert_is_brute_force(case, name, result, recorded, 3)


def normals_entry_by_entry(noise, shape):
    """What a measure-valued estimator draws beside the noise, as a function of each entry alone."""
    return np.stack([np.sin(1e3 * (i + 1) * noise) for i in range(shape[0])])


@pytest.mark.equation("11.9")
@pytest.mark.parametrize("name", [*ELSEWHERE, *COUPLED])
def test_variance_is_that_of_an_estimator_that_looks_elsewhere(rng, recorded, monkeypatch, name):
    # Its own normals come from a hash of all the noise that it is given, which here comes draw by draw.
    monkeypatch.setattr(measure_valued, "_derived_normals", normals_entry_by_entry)
    monkeypatch.setattr(blocks_module, "_ROWS", 20)  # chunks of one example and of two
    case = make_case(rng, depth=2, kl="analytic" if "pathwise" in name else "sampled")
    group = COUPLED.get(name, 1)
    result = gradient_variance(
        case.vae, case.x, (name,), num_samples=44 * group, rng=rng, samples_per_estimate=max(group, 2)
    )
    assert result.samples == {name: group}
    assert_is_brute_force(case, name, result, recorded, group)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("activation", ["relu", "softplus", "identity"])
def test_variance_is_that_of_the_gradient_for_every_kind_of_layer(rng, recorded, activation, likelihood):
    case = make_case(rng, activation=activation, likelihood=likelihood, batch=2)
    result = gradient_variance(case.vae, case.x, ("pathwise",), num_samples=60, rng=rng)
    assert_is_brute_force(case, "pathwise", result, recorded, 1)


@pytest.mark.parametrize(("longest", "rows"), [(4, 8192), (1024, 1), (1024, 15), (5, 7)])
def test_cutting_into_blocks_and_chunks_changes_nothing(rng, recorded, monkeypatch, longest, rows):
    case = make_case(rng, batch=5, kl="sampled")
    monkeypatch.setattr(module, "_LONGEST_BLOCK", longest)
    monkeypatch.setattr(blocks_module, "_ROWS", rows)
    names = ("pathwise", LEAVE_ONE_OUT)
    result = gradient_variance(case.vae, case.x, names, num_samples=130, rng=5, samples_per_estimate=2)
    size = min(6, longest - longest % 2)
    assert [len(block) for block in recorded] == [size] * (1 + 130 // size)
    for name in names:
        assert_is_brute_force(case, name, result, recorded, 2)
    monkeypatch.setattr(blocks_module, "_ROWS", 8192)
    whole = gradient_variance(case.vae, case.x, names, num_samples=130, rng=5, samples_per_estimate=2)
    for name in names:
        np.testing.assert_allclose(flat(result.variance[name]), flat(whole.variance[name]), rtol=1e-10)
        np.testing.assert_allclose(flat(result.mean[name]), flat(whole.mean[name]), rtol=1e-9, atol=1e-14)


def test_one_estimate_may_compare_more_samples_than_a_block_holds(rng, recorded, monkeypatch):
    monkeypatch.setattr(module, "_LONGEST_BLOCK", 8)
    case = make_case(rng)
    for group in (5, 8, 11):
        recorded.clear()
        result = gradient_variance(
            case.vae, case.x, (LEAVE_ONE_OUT,), num_samples=40 * group, rng=rng, samples_per_estimate=group
        )
        assert {len(block) for block in recorded} == {2 * group}, (
            "two estimates at least, or there is no spread"
        )
        assert_is_brute_force(case, LEAVE_ONE_OUT, result, recorded, group)


# --- what else it promises --------------------------------------------------------------------------------


def test_all_estimators_see_the_same_noise_and_leave_each_other_alone(rng):
    case = make_case(rng)
    names = ESTIMATORS[:3]
    together = gradient_variance(case.vae, case.x, names, num_samples=100, rng=3)
    for name in reversed(names):
        alone = gradient_variance(case.vae, case.x, (name,), num_samples=100, rng=3)
        np.testing.assert_equal(alone.variance[name], together.variance[name])
        np.testing.assert_equal(alone.mean[name], together.mean[name])
        for parameter, value in alone.variance[name].items():
            if parameter.startswith("decoder"):
                np.testing.assert_array_equal(value, together.variance["pathwise"][parameter])
    assert together.estimators == names


def test_the_model_is_left_as_it_was(rng):
    case = make_case(rng)
    case.vae.loss_and_gradients(case.x, case.noise)
    with unchanged(case.vae.theta, case.vae.gradient, case.x):
        gradient_variance(case.vae, case.x, ESTIMATORS, num_samples=400, rng=rng)


def test_the_same_seed_gives_the_same_bits(rng):
    case = make_case(rng)
    first, again, other = (gradient_variance(case.vae, case.x, ESTIMATORS, 400, seed) for seed in (3, 3, 4))
    generator = gradient_variance(case.vae, case.x, ESTIMATORS, 400, np.random.default_rng(3))
    np.testing.assert_equal(first.variance, again.variance)
    np.testing.assert_equal(first.variance, generator.variance)
    assert first.total("pathwise") != other.total("pathwise")


def test_totals_are_sums_of_their_parts(rng):
    case = make_case(rng, depth=2)
    result = gradient_variance(case.vae, case.x, ESTIMATORS, 400, 0)
    for name in ESTIMATORS:
        variances = result.variance[name]
        assert list(variances) == list(case.vae.parameters)
        for part in ("", "encoder", "encoder.mean", "decoder.1.weight"):
            expected = sum(value.sum() for key, value in variances.items() if key.startswith(part))
            assert result.total(name, part) == pytest.approx(expected, rel=1e-12)
        tail = result.tail(name)
        count = result.num_samples // result.samples[name]
        assert result._squares[name].shape == (count,)
        assert result._squares[name].mean() == pytest.approx(result.total(name, "encoder"), rel=1e-12)
        assert tail.kurtosis == pytest.approx(
            (result._squares[name] ** 2).mean() / result.total(name, "encoder") ** 2
        )
        assert tail.effective_draws * tail.kurtosis == pytest.approx(count)
        assert 1 / count < tail.largest_share < 1
        blocks = result.total_standard_error(name, "encoder")  # twenty of them: known to a sixth
        assert 0.3 < tail.standard_error / blocks < 3
        squared = sum((m**2).sum() for m in result.mean[name].values())
        noise = result.total(name) / result.num_samples
        assert result.signal_to_noise(name) ** 2 * result.total(name) == pytest.approx(
            max(squared - noise, 0)
        )
        encoder, decoder = result.total(name, "encoder"), result.total(name, "decoder")
        assert result.total(name) == pytest.approx(encoder + decoder, rel=1e-12)
        for key, value in variances.items():
            shape = case.vae.parameters[key].shape
            kinds = (value, result.mean[name][key], result.mean_standard_error[name][key])
            assert {kind.shape for kind in kinds} == {shape}
            assert value.dtype == np.float64
            assert (value >= 0).all()


def test_single_precision_measures_the_same(rng):
    case = make_case(rng, depth=2)
    twin = VAE(**{k: v for k, v in case.vae.config().items() if k != "model"} | {"dtype": "float32"}, rng=0)
    twin.load_parameters(case.vae.parameters)
    double, single = (gradient_variance(vae, case.x, ESTIMATORS, 400, 0) for vae in (case.vae, twin))
    for name in ESTIMATORS:
        assert single.total(name) == pytest.approx(double.total(name), rel=1e-4)


def test_examples_that_differ_make_no_variance(rng):
    # A decoder that ignores z has nothing noisy about it, however different the examples of the minibatch are:
    # what is measured is the sampling noise alone, not the spread between examples.
    case = make_case(rng, depth=2, likelihood="gaussian")
    case.vae.parameters["decoder.0.weight"][...] = 0
    result = gradient_variance(case.vae, case.x, ("pathwise",), 100, 0)
    for name, value in result.variance["pathwise"].items():
        mean = np.abs(result.mean["pathwise"][name]).max()
        assert (value.max() > 1e-14 * mean**2) == (name == "decoder.0.weight"), name
    everything = gradient_variance(case.vae, case.x, ("score-function",), 100, 0)
    assert everything.total("score-function", "encoder") > 0, "its height still rides on the score"


# --- the exact variance of a linear model -----------------------------------------------------------------

# x | z ~ N(z W + b, v): every gradient is a polynomial in the noise, and quadrature gives its variance exactly.
BATCH = 2
DRAWS = 200_000
GROUP = 5
COMPARISONS = 36


@functools.cache
def linear_case():
    """The model under test: fixed, so that its variances are, and calm, so that few draws know them."""
    case = make_case(np.random.default_rng(3), depth=0, likelihood="gaussian", batch=BATCH)
    case.vae.theta *= 0.4
    return case


def moments(weights, samples):
    """Mean and variance over the quadrature's nodes."""
    mean = weighted_mean(weights, samples)
    return mean, weighted_mean(weights, (samples - mean) ** 2)


@functools.cache
def exact_variances():
    """{estimator: {parameter: variance}} from the formulas of the linear model alone."""
    vae, x, _ = linear_case()
    weight, bias = vae.parameters["decoder.0.weight"], vae.parameters["decoder.0.bias"]
    nodes, weights = gauss_hermite_product(8, LATENT_DIM)
    per_example = []
    for x_b, mean, log_var in zip(x, *vae.encode(x), strict=True):
        deviation = np.exp(log_var / 2)
        z = mean + deviation * nodes
        residual = x_b - z @ weight - bias
        value = -(residual**2 / vae.likelihood_variance).sum(axis=1) / 2
        value = value - x.shape[1] / 2 * np.log(2 * np.pi * vae.likelihood_variance)
        slope = residual @ weight.T / vae.likelihood_variance
        score = np.stack([nodes / deviation, (nodes**2 - 1) / 2], axis=1)
        pathwise = np.stack([slope, slope * deviation * nodes / 2], axis=1)
        of_decoder = residual / vae.likelihood_variance
        decoder = z[:, :, None] * of_decoder[:, None, :], of_decoder
        per_example.append((x_b, value, score, pathwise, decoder))
    averages = np.array([moments(weights, value) for _, value, *_ in per_example])
    result = {}
    for name in ESTIMATORS:
        total = {key: np.zeros(p.shape) for key, p in vae.parameters.items()}
        for b, (x_b, value, score, pathwise, decoder) in enumerate(per_example):
            average, spread = averages[b]
            squared_score = weighted_mean(weights, score**2)
            if name == "pathwise":
                _, variance = moments(weights, pathwise)
            elif name == "score-function":
                _, variance = moments(weights, value[:, None, None] * score)
            elif name == LEAVE_ONE_OUT:  # (7.15), times the number of samples
                mean, variance = moments(weights, (value - average)[:, None, None] * score)
                variance = variance + (spread * squared_score + mean**2) / (GROUP - 1)
            else:  # (7.19), with the mean over examples for a value
                _, variance = moments(weights, (value - averages[:, 0].mean())[:, None, None] * score)
                variance = variance + averages[:, 1].sum() / BATCH**2 / 39 * squared_score
            for head, of_head in zip(("mean", "log_var"), variance, strict=True):
                total[f"encoder.{head}.weight"] += np.outer(x_b**2, of_head) / BATCH**2
                total[f"encoder.{head}.bias"] += of_head / BATCH**2
            total["decoder.0.weight"] += moments(weights, decoder[0])[1] / BATCH**2
            total["decoder.0.bias"] += moments(weights, decoder[1])[1] / BATCH**2
        result[name] = total
    return result


def disagreements(result):
    """Where a total is further from the exact one than chance allows: [(estimator, part)].

    The error of a total is estimated from twenty blocks of ten thousand draws, taken as normal: of all statistical
    tests this is the one whose rate rests on an approximation.
    """
    found = []
    _, critical = Chance().between(student(19), COMPARISONS)
    for name in ESTIMATORS:
        exact = exact_variances()[name]
        for part in ("", "encoder", "decoder", *exact):
            expected = sum(value.sum() for key, value in exact.items() if key.startswith(part))
            if abs(result.total(name, part) - expected) > critical * result.total_standard_error(name, part):
                found.append((name, part))
    return found


def measure(rng, **changes):
    case = linear_case()
    arguments = {"num_samples": DRAWS, "rng": rng, "samples_per_estimate": GROUP} | changes
    return gradient_variance(case.vae, case.x, ESTIMATORS, **arguments)


@pytest.mark.usefixtures("chance")
def test_variance_of_a_linear_model_is_the_exact_one(rng):
    result = measure(rng)
    for name in ESTIMATORS:
        error = result.total_standard_error(name, "encoder") / result.total(name, "encoder")
        assert error < 0.04, "or the comparison would say nothing"
    assert disagreements(result) == []


def forget_the_group(gradients, group):
    """The variance of the mean of K, not K times it."""
    return (gradient / np.sqrt(group.samples) for gradient in gradients)


def mix_minibatches(gradients, group):
    """Each draw with examples in another order: the spread between minibatches is measured as well."""
    for gradient in gradients:
        draws = np.arange(len(gradient))
        yield np.stack([gradient[draws, draws % BATCH], gradient[draws, 1 - draws % BATCH]], axis=1)


@pytest.mark.parametrize(
    ("plant", "seen_in"),
    [(forget_the_group, {LEAVE_ONE_OUT}), (mix_minibatches, {"pathwise"}), (None, set(ESTIMATORS))],
    ids=["K forgotten", "minibatches mixed", "noise 15 % too wide"],
)
@pytest.mark.usefixtures("chance")
def test_a_wrong_variance_of_a_linear_model_is_seen(rng, monkeypatch, plant, seen_in):
    if plant is None:
        draw = module.standard_normal
        monkeypatch.setattr(module, "standard_normal", lambda *arguments: 1.15 * draw(*arguments))
    else:
        right = blocks_module.MinibatchPasses.posterior_gradients

        def planted(passes, samples, group):
            dmean, dlog_var, decoder = right(passes, samples, group)
            return (*plant((dmean, dlog_var), group), decoder)

        monkeypatch.setattr(blocks_module.MinibatchPasses, "posterior_gradients", planted)
    seen = {name for name, part in disagreements(measure(rng)) if part == "encoder"}
    assert seen >= seen_in
    assert plant is not forget_the_group or seen == seen_in


# --- standard errors --------------------------------------------------------------------------------------


RUNS = 200


def test_standard_errors_are_those_of_repeated_measurements(rng, chance):
    # The spread of 200 measurements against what each says of itself: χ² if they are normal, narrower for sums over
    # several entries. A standard error that is twice as large as it should be, or half as large, is outside of it.
    low, high = chance.between(chi2(RUNS - 1, scale=1 / (RUNS - 1)), 16)
    assert high < 4 * low
    case = linear_case()
    names = ("pathwise", "score-function")
    runs = [gradient_variance(case.vae, case.x, names, 800, seed) for seed in rng.spawn(RUNS)]
    for name in names:
        for part in ("encoder", "decoder"):
            totals = np.array([run.total(name, part) for run in runs])
            errors = np.array([run.total_standard_error(name, part) for run in runs])
            assert low < totals.var(ddof=1) / (errors**2).mean() < high, (name, part)
            exact = sum(v.sum() for key, v in exact_variances()[name].items() if key.startswith(part))
            far = chance.between(student(RUNS - 1), 16)[1] * totals.std(ddof=1) / np.sqrt(RUNS)
            assert abs(totals.mean() - exact) < far, (name, part)
        for key in ("encoder.mean.weight", "decoder.0.bias"):
            found = np.array([run.variance[name][key].ravel() for run in runs])
            errors = np.array([run.variance_standard_error[name][key].ravel() for run in runs])
            assert low < (found.var(axis=0, ddof=1).sum() / (errors**2).mean(axis=0).sum()) < high, (
                name,
                key,
            )
            found = np.array([run.mean[name][key].ravel() for run in runs])
            errors = np.array([run.mean_standard_error[name][key].ravel() for run in runs])
            assert low < (found.var(axis=0, ddof=1).sum() / (errors**2).mean(axis=0).sum()) < high, (
                name,
                key,
            )


# --- at the door ------------------------------------------------------------------------------------------

GOOD_X = np.zeros((3, INPUT_DIM))
BAD = {
    "x": ({"x": np.zeros((3, 4))}, ValueError, "x has shape (3, 4), expected (B, 5)"),
    "x outside": ({"x": GOOD_X + 2}, ValueError, "x has … 2 … expected values in [0, 1]"),
    "bytes": ({"x": np.zeros((3, 5), np.uint8)}, TypeError, "x holds bytes"),
    "unknown": (
        {"estimators": ("pathwise", "gumbel")},
        ValueError,
        "estimator is 'gumbel', expected one of: pathwise",
    ),
    "none": ({"estimators": ()}, ValueError, "estimators is (), expected at least one name"),
    "too few": ({"num_samples": 39}, ValueError, "num_samples is 39, expected an integer of at least 40"),
    "too few for groups": (
        {"estimators": [LEAVE_ONE_OUT], "num_samples": 399},
        ValueError,
        "num_samples is 399, expected an integer of at least 400",
    ),
    "a float": ({"num_samples": 1e3}, TypeError, "num_samples is 1000.0, expected an integer"),
    "no others": (
        {"estimators": [LEAVE_ONE_OUT], "samples_per_estimate": 1},
        ValueError,
        "samples_per_estimate is 1, expected an integer of at least 2",
    ),
    "rng": ({"rng": "dice"}, TypeError, "rng is 'dice'"),
    "half a pair": (
        {"estimators": ["antithetic-score-function-leave-one-out"], "samples_per_estimate": 5},
        ValueError,
        "samples_per_estimate is 5, expected an even number",
    ),
    "a term": ({"term": "prior"}, ValueError, "term is 'prior', expected one of: loss, reconstruction, kl"),
    "no sum": (
        {"estimators": ["importance-weighted-vimco"], "term": "kl"},
        ValueError,
        "term is 'kl', expected 'loss' for the importance-weighted bound",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_are_refused_in_one_sentence(what):
    changes, error, words = BAD[what]
    arguments = {"x": GOOD_X, "num_samples": 400} | changes
    assert_refused(error, words, lambda: gradient_variance(VAE(INPUT_DIM, (4,), 2, rng=0), **arguments))


def test_parameters_that_are_not_finite_are_refused():
    vae = VAE(INPUT_DIM, (4,), 2, rng=0)
    vae.parameters["decoder.0.bias"][1] = np.nan
    assert_refused(ValueError, "vae.theta has … nan", lambda: gradient_variance(vae, GOOD_X))


def test_a_part_that_is_no_name_is_refused():
    result = gradient_variance(VAE(INPUT_DIM, (4,), 2, rng=0), GOOD_X, "pathwise", 40)
    assert result.estimators == ("pathwise",), "one name may stand alone"
    for question in (result.total, result.total_standard_error):
        assert_refused(
            ValueError,
            "part is 'lid', expected the beginning",
            lambda question=question: question("pathwise", "lid"),
        )


def test_a_result_says_what_it_is_without_its_arrays(rng):
    case = make_case(rng)
    result = gradient_variance(case.vae, case.x, ("pathwise",), 40, 0)
    assert repr(result) == "GradientVariance(estimators=('pathwise',), num_samples=40)"


def test_a_name_given_twice_is_measured_once():
    result = gradient_variance(VAE(INPUT_DIM, (4,), 2, rng=0), GOOD_X, ["pathwise", "pathwise"], 40)
    assert result.estimators == ("pathwise",)


def test_an_autoencoder_has_no_noise_to_speak_of():
    model = Autoencoder(INPUT_DIM, (4,), 2, rng=0)
    assert_refused(
        TypeError, "vae is of type Autoencoder, expected a VAE", lambda: gradient_variance(model, GOOD_X)
    )
