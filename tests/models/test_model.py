"""What the two models share: names, views of one vector, initial weights, configuration, and what is refused."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from scratchvae.models import model as module
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from tests.models.cases import (
    ACTIVATIONS,
    DEPTHS,
    INPUT_DIM,
    LIKELIHOODS,
    assert_refused,
    draw_x,
    make_autoencoder,
    make_case,
    shake,
)
from tests.oracles.complex_step import unchanged

# --- names, order, shapes ---------------------------------------------------------------------------------

SHAPES_OF_A_VAE = {
    "encoder.0.weight": (9, 7),
    "encoder.0.bias": (7,),
    "encoder.1.weight": (7, 4),
    "encoder.1.bias": (4,),
    "encoder.mean.weight": (4, 2),
    "encoder.mean.bias": (2,),
    "encoder.log_var.weight": (4, 2),
    "encoder.log_var.bias": (2,),
    "decoder.0.weight": (2, 4),
    "decoder.0.bias": (4,),
    "decoder.1.weight": (4, 7),
    "decoder.1.bias": (7,),
    "decoder.2.weight": (7, 9),
    "decoder.2.bias": (9,),
}
SHAPES_OF_A_LINEAR_VAE = {
    "encoder.mean.weight": (9, 2),
    "encoder.mean.bias": (2,),
    "encoder.log_var.weight": (9, 2),
    "encoder.log_var.bias": (2,),
    "decoder.0.weight": (2, 9),
    "decoder.0.bias": (9,),
}
SHAPES_OF_AN_AUTOENCODER = {
    "encoder.0.weight": (9, 7),
    "encoder.0.bias": (7,),
    "encoder.1.weight": (7, 4),
    "encoder.1.bias": (4,),
    "encoder.code.weight": (4, 2),
    "encoder.code.bias": (2,),
    **{name: shape for name, shape in SHAPES_OF_A_VAE.items() if name.startswith("decoder")},
}
SHAPES_OF_THE_SMALLEST_AUTOENCODER = {
    "encoder.code.weight": (784, 32),
    "encoder.code.bias": (32,),
    "decoder.0.weight": (32, 784),
    "decoder.0.bias": (784,),
}


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        (VAE(9, (7, 4), 2, rng=0), SHAPES_OF_A_VAE),
        (VAE(9, (), 2, rng=0), SHAPES_OF_A_LINEAR_VAE),
        (Autoencoder(9, (7, 4), 2, rng=0), SHAPES_OF_AN_AUTOENCODER),
        (Autoencoder(784, rng=0), SHAPES_OF_THE_SMALLEST_AUTOENCODER),
    ],
    ids=["VAE", "linear VAE", "autoencoder", "784-32-784"],
)
def test_parameters_and_gradients_are_named_views_in_order(model, shapes):
    for vector, views in ((model.theta, model.parameters), (model.gradient, model.gradients)):
        assert {name: view.shape for name, view in views.items()} == shapes
        assert list(views) == list(shapes)
        assert vector.shape == (sum(int(np.prod(shape)) for shape in shapes.values()),)
        assert vector.flags.c_contiguous
        vector[...] = np.arange(vector.size)
        np.testing.assert_array_equal(np.concatenate([view.ravel() for view in views.values()]), vector)
        for view in views.values():
            assert np.shares_memory(view, vector)
            np.add(view, 1, out=view)
        np.testing.assert_array_equal(vector, np.arange(vector.size) + 1)
    assert not np.shares_memory(model.theta, model.gradient)


def test_the_usual_small_vae_has_652824_parameters():
    assert VAE(784, rng=0).theta.shape == (652_824,)


def test_changing_theta_in_place_changes_the_model(rng):
    case = make_case(rng)
    before = case.vae.loss(case.x, case.noise)
    kept = case.vae.theta.copy()
    case.vae.theta *= 1.5
    assert case.vae.loss(case.x, case.noise) != before
    case.vae.theta[...] = kept
    assert case.vae.loss(case.x, case.noise) == before


# --- initial weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "heads"), [(VAE, ("mean", "log_var")), (Autoencoder, ("code",))])
def test_each_weight_is_scaled_for_the_activation_that_follows_it(monkeypatch, make, heads):
    asked = []
    right = module.initial_weight
    monkeypatch.setattr(
        module, "initial_weight", lambda *arguments: asked.append(arguments[:3]) or right(*arguments)
    )
    model = make(9, (7, 4), 2, activation="relu", initialization="he", rng=0)
    assert asked == [
        (9, 7, "relu"),
        (7, 4, "relu"),
        *[(4, 2, "identity")] * len(heads),
        (2, 4, "relu"),
        (4, 7, "relu"),
        (7, 9, "identity"),
    ]
    for name, parameter in model.parameters.items():
        assert parameter.any() == name.endswith("weight"), name


def test_weights_are_glorot_s_unless_he_s_are_asked_for():
    # Standard deviations √(2 / (fan_in + fan_out)) and √(2 / fan_in), to three per cent of 40,000 weights.
    for initialization, scale in (("glorot", np.sqrt(2 / 400)), ("he", np.sqrt(2 / 200))):
        weight = VAE(200, (200,), 2, initialization=initialization, rng=0).parameters["encoder.0.weight"]
        assert abs(weight.std() / scale - 1) < 0.03


@pytest.mark.parametrize("make", [VAE, Autoencoder])
def test_initial_weights_come_from_rng_alone(make):
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - to show that nobody touches it
    first, again, other = (make(9, (7,), 2, rng=seed).theta for seed in (3, 3, 4))
    assert first.tobytes() == again.tobytes()
    assert (first != other).any()
    generator = make(9, (7,), 2, rng=np.random.default_rng(3)).theta
    assert first.tobytes() == generator.tobytes()
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_initial_weights_are_the_same_in_both_precisions():
    single, double = (VAE(9, (7,), 2, dtype=dtype, rng=3).theta for dtype in (np.float32, np.float64))
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_gradient_is_zero_at_first():
    assert not VAE(9, (7,), 2, rng=0).gradient.any()


# --- the decoder's side -----------------------------------------------------------------------------------


def both_models(rng, **settings):
    return make_case(rng, **settings).vae, make_autoencoder(rng, **settings)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_reconstruction_is_the_mean_at_the_code(rng, likelihood):
    x = draw_x(rng, likelihood, 3)
    for model in both_models(rng, likelihood=likelihood):
        output = model.decode(model.code(x))
        expected = output if likelihood == "gaussian" else 1 / (1 + np.exp(-output))
        np.testing.assert_allclose(model.reconstruct(x), expected, rtol=1e-13)


def test_interpolation_goes_straight_between_the_codes_and_includes_both_ends(rng):
    x = draw_x(rng, "bernoulli", 2)
    for model in both_models(rng, depth=2):
        path = model.interpolate(x[0], x[1], 5)
        assert path.shape == (5, INPUT_DIM)
        np.testing.assert_allclose(path[[0, -1]], model.reconstruct(x), rtol=1e-12)
        first, last = model.code(x)
        quarter = model.decode((0.75 * first + 0.25 * last)[None])
        np.testing.assert_allclose(path[1], 1 / (1 + np.exp(-quarter[0])), rtol=1e-12)
        assert model.interpolate(x[0], x[1]).shape == (9, INPUT_DIM)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_everything_that_comes_out_has_the_model_s_precision(rng, dtype):
    x = draw_x(rng, "bernoulli", 2)
    for model in both_models(rng, dtype=dtype):
        results = [
            model.code(x),
            model.reconstruct(x),
            model.interpolate(x[0], x[1]),
            model.decode(model.code(x)),
        ]
        assert {result.dtype for result in results} == {np.dtype(dtype)}
    vae, _ = both_models(rng, dtype=dtype)
    assert {vae.sample(2, 0).dtype, *(part.dtype for part in vae.encode(x))} == {np.dtype(dtype)}
    assert {part.dtype for part in vae.elbo(x, rng=0)} == {np.dtype(np.float64)}, (
        "losses are summed in double"
    )


# --- configuration and parameters -------------------------------------------------------------------------


@pytest.mark.parametrize("make", [VAE, Autoencoder])
def test_configuration_is_every_argument_but_rng(make):
    settings = {
        "activation": "softplus",
        "likelihood": "gaussian",
        "likelihood_variance": 0.3,
        "initialization": "he",
        "dtype": "float64",
    }
    if make is VAE:
        settings |= {"beta": 4.0, "kl": "sampled"}
    model = make(9, (7, 4), 3, binarize="threshold", rng=0, **settings)
    config = model.config()
    assert config == {
        "model": make.__name__,
        "input_dim": 9,
        "hidden": [7, 4],
        "latent_dim": 3,
        "binarize": "threshold",
        **settings,
    }
    assert set(config) == {"model", *inspect.signature(make).parameters} - {"rng"}
    again = eval(repr(model), {make.__name__: make})
    assert again.config() == config


def test_defaults_are_those_of_the_usual_small_models():
    both = {
        "input_dim": 784, "activation": "relu", "likelihood": "bernoulli", "likelihood_variance": 1.0,
        "binarize": "dynamic", "initialization": "glorot", "dtype": "float32",
    }  # fmt: skip
    of_vae = {"model": "VAE", "hidden": [400], "latent_dim": 20, "beta": 1.0, "kl": "analytic"}
    assert VAE(784, rng=0).config() == both | of_vae
    assert Autoencoder(784, rng=0).config() == both | {"model": "Autoencoder", "hidden": [], "latent_dim": 32}


@pytest.mark.parametrize(
    ("likelihood", "given", "kept"),
    [
        ("bernoulli", "auto", "dynamic"),
        ("gaussian", "auto", None),
        ("bernoulli", None, None),
        ("bernoulli", "threshold", "threshold"),
        ("gaussian", "dynamic", "dynamic"),
    ],
)
def test_binarization_is_chosen_by_the_likelihood_unless_said(likelihood, given, kept):
    for make in (VAE, Autoencoder):
        assert make(9, (), 2, likelihood=likelihood, binarize=given, rng=0).binarize == kept


def test_hidden_sizes_may_be_any_sequence_of_integers():
    for hidden in ([7, 4], (7, 4), np.array([7, 4]), (size for size in (7, 4))):
        assert VAE(9, hidden, 2, rng=0).hidden == (7, 4)


def test_loading_parameters_copies_them(rng):
    model, source = make_autoencoder(rng), make_autoencoder(rng)
    given = {name: value.copy() for name, value in source.parameters.items()}
    theta = model.theta
    model.load_parameters(given)
    assert model.theta is theta
    np.testing.assert_array_equal(theta, source.theta)
    given["decoder.0.bias"][...] = 0
    np.testing.assert_array_equal(theta, source.theta)


def spoiled(parameters, name):
    broken = {key: value.copy() for key, value in parameters.items()}
    broken[name].flat[-1] = np.nan
    return broken


BAD_PARAMETERS = {
    "one missing": (
        lambda p: dict(list(p.items())[:-1]),
        "decoder.1.bias differ; expected ['encoder.0.weight'",
    ),
    "one too many": (lambda p: {**p, "decoder.9.bias": np.zeros(3)}, "decoder.9.bias differ"),
    "another order": (lambda p: dict(reversed(p.items())), "the order of names differ"),
    "transposed": (
        lambda p: {**p, "encoder.0.weight": p["encoder.0.weight"].T},
        "encoder.0.weight has shape (4, 5), expected (5, 4)",
    ),
    "a NaN": (lambda p: spoiled(p, "decoder.1.bias"), "decoder.1.bias has … nan at index (4,)"),
}


@pytest.mark.parametrize("what", BAD_PARAMETERS)
def test_parameters_that_do_not_fit_are_refused_and_none_is_taken(rng, what):
    model, source = make_autoencoder(rng), make_autoencoder(rng)
    spoil, words = BAD_PARAMETERS[what]
    bad = spoil(dict(source.parameters))
    with unchanged(model.theta):
        assert_refused(ValueError, words, lambda: model.load_parameters(bad))


# --- at the door ------------------------------------------------------------------------------------------

BAD_SETTINGS = [
    ({"input_dim": 0}, ValueError, "input_dim is 0, expected an integer of at least 1"),
    ({"input_dim": 9.0}, TypeError, "input_dim is 9.0, expected an integer"),
    ({"input_dim": (28, 28)}, TypeError, "input_dim is (28, 28), expected an integer"),
    ({"latent_dim": -1}, ValueError, "latent_dim is -1, expected an integer of at least 1"),
    ({"latent_dim": True}, TypeError, "latent_dim is True, expected an integer"),
    ({"hidden": 400}, TypeError, "hidden is 400, expected a sequence of layer sizes"),
    ({"hidden": "400"}, TypeError, "hidden is '400', expected a sequence of layer sizes"),
    ({"hidden": None}, TypeError, "hidden is None, expected a sequence of layer sizes"),
    ({"hidden": (400, 0)}, ValueError, "a size in hidden is 0, expected an integer of at least 1"),
    ({"hidden": (400.0,)}, TypeError, "a size in hidden is 400.0, expected an integer"),
    (
        {"activation": "gelu"},
        ValueError,
        "activation is 'gelu', expected one of: " + ", ".join(ACTIVATIONS[:3]),
    ),
    ({"activation": None}, ValueError, "activation is None, expected one of: identity"),
    ({"likelihood": "poisson"}, ValueError, "likelihood is 'poisson', expected one of: bernoulli, gaussian"),
    (
        {"likelihood_variance": 0},
        ValueError,
        "likelihood_variance is 0, expected a finite number greater than 0",
    ),
    ({"likelihood_variance": np.nan}, ValueError, "likelihood_variance is nan, expected a finite number"),
    ({"likelihood_variance": "1"}, TypeError, "likelihood_variance is '1', expected a number"),
    (
        {"binarize": "static"},
        ValueError,
        "binarize is 'static', expected one of: dynamic, threshold, None, auto",
    ),
    ({"binarize": False}, ValueError, "binarize is False, expected one of"),
    ({"dtype": np.float16}, ValueError, "dtype is float16, expected float32 (for training) or float64"),
    ({"dtype": int}, ValueError, "dtype is int64, expected float32"),
    ({"dtype": "double trouble"}, TypeError, "dtype is 'double trouble', expected float32"),
    ({"dtype": None}, TypeError, "dtype is None, expected float32"),
    ({"rng": "dice"}, TypeError, "rng is 'dice'"),
    ({"rng": -3}, ValueError, "rng is the seed -3"),
]
BAD_SETTINGS_OF_A_VAE = [
    ({"beta": -0.5}, ValueError, "beta is -0.5, expected a finite number at least 0"),
    ({"beta": np.inf}, ValueError, "beta is inf, expected a finite number"),
    ({"beta": None}, TypeError, "beta is None, expected a number"),
    ({"kl": "exact"}, ValueError, "kl is 'exact', expected one of: analytic, sampled"),
]


@pytest.mark.parametrize(
    ("make", "settings", "error", "words"),
    [(VAE, *bad) for bad in BAD_SETTINGS + BAD_SETTINGS_OF_A_VAE]
    + [(Autoencoder, *bad) for bad in BAD_SETTINGS],
    ids=lambda part: str(part) if isinstance(part, dict) else getattr(part, "__name__", ""),
)
def test_bad_settings_are_refused_in_one_sentence(make, settings, error, words):
    assert_refused(
        error, words, lambda: make(**{"input_dim": 9, "hidden": (4,), "latent_dim": 2, "rng": 0} | settings)
    )


BAD_CALLS = {
    "decode another size": ("decode", (np.zeros((3, 4)),), ValueError, "z has shape (3, 4), expected (B, 2)"),
    "decode one code without its axis": (
        "decode",
        (np.zeros(2),),
        ValueError,
        "z has shape (2,), expected (B, 2)",
    ),
    "decode NaN": ("decode", (np.full((1, 2), np.nan),), ValueError, "z has … nan at index (0, 0)"),
    "interpolate images": (
        "interpolate",
        (np.zeros((1, 5)), np.zeros(5)),
        ValueError,
        "start has shape (1, 5), expected (5,)",
    ),
    "interpolate to another size": (
        "interpolate",
        (np.zeros(5), np.zeros(4)),
        ValueError,
        "end has shape (4,), expected (5,)",
    ),
    "interpolate from no Bernoulli data": (
        "interpolate",
        (np.full(5, 2.0), np.zeros(5)),
        ValueError,
        "start has the value 2 … expected values in [0, 1]",
    ),
    "interpolate to no Bernoulli data": (
        "interpolate",
        (np.zeros(5), np.full(5, -2.0)),
        ValueError,
        "end has the value -2 … expected values in [0, 1]",
    ),
    "interpolate to bytes": (
        "interpolate",
        (np.zeros(5), np.zeros(5, np.uint8)),
        TypeError,
        "end holds bytes",
    ),
    "interpolate in one step": (
        "interpolate",
        (np.zeros(5), np.zeros(5), 1),
        ValueError,
        "num_steps is 1, expected an integer of at least 2",
    ),
}


@pytest.mark.parametrize("what", BAD_CALLS)
@pytest.mark.parametrize("make", [VAE, Autoencoder])
def test_bad_arguments_are_refused_in_one_sentence(make, what):
    method, arguments, error, words = BAD_CALLS[what]
    model = make(INPUT_DIM, DEPTHS[1], 2, rng=0)
    assert_refused(error, words, lambda: getattr(model, method)(*arguments))


def test_a_model_that_was_moved_keeps_its_names(rng):
    model = VAE(9, (7, 4), 2, rng=0)
    shake(model, rng)
    for name in ("encoder.0", "encoder.log_var", "decoder.2"):
        layer = model.layer(name)
        assert np.shares_memory(layer.weight, model.theta)
        np.testing.assert_array_equal(layer.bias, model.parameters[f"{name}.bias"])
        linear = name in ("encoder.log_var", "decoder.2")
        assert layer.activation.name == ("identity" if linear else "relu")


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda vae: pickle.loads(pickle.dumps(vae))], ids=["deepcopy", "pickle"]
)
def test_a_copy_has_views_of_its_own_vector(duplicate: Callable[[VAE], VAE]) -> None:
    # An ordinary copy of the views would leave theta and the layers apart: trained would not be what is evaluated.
    original = VAE(6, (5,), 2, dtype=np.float64, rng=0)
    twin = duplicate(original)
    assert np.array_equal(twin.theta, original.theta)
    assert twin.config() == original.config()
    assert not np.shares_memory(twin.theta, original.theta)
    for name, view in twin.parameters.items():
        assert np.shares_memory(view, twin.theta), name
    assert all(np.shares_memory(view, twin.gradient) for view in twin.gradients.values())


def test_assigning_writes_into_the_vector() -> None:
    vae = VAE(6, (5,), 2, dtype=np.float64, rng=0)
    vector, bias = vae.theta, vae.parameters["decoder.1.bias"]
    vae.theta = 2 * vae.theta
    vae.parameters["decoder.1.bias"] = np.arange(6.0)
    vae.gradient = np.ones_like(vae.gradient)
    assert vae.theta is vector
    assert vae.parameters["decoder.1.bias"] is bias
    assert np.array_equal(vector[-6:], np.arange(6.0))
    assert np.all(vae.gradients["encoder.0.weight"] == 1)
    with pytest.raises(ValueError, match=r"theta has shape \(3,\), expected"):
        vae.theta = np.zeros(3)
