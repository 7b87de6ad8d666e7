"""The kernels compiled by numba: the names and signatures of `scratchvae.kernels.reference`."""

from scratchvae.kernels.compiled.elementwise import (
    all_finite,
    bernoulli_value_and_gradient,
    gaussian_kl_value_and_gradient,
    reparameterize,
    reparameterize_gradient,
)
from scratchvae.kernels.compiled.fused_dense import (
    dense_activation,
    dense_input_gradient,
    dense_parameter_gradients,
)
from scratchvae.kernels.compiled.matmul import matmul, matmul_transposed_left, matmul_transposed_right
from scratchvae.kernels.compiled.optimizers import adam_update, sgd_update
from scratchvae.kernels.compiled.outer_products import (
    add_mean_and_squares,
    add_outer_products,
    add_shifted_rows,
)
from scratchvae.kernels.compiled.philox import (
    bernoulli,
    binarize,
    philox4x32,
    philox_uint32,
    standard_normal,
    uniform,
)
from scratchvae.kernels.compiled.vae_gradients import vae_gradients

__all__ = [
    "adam_update",
    "add_mean_and_squares",
    "add_outer_products",
    "add_shifted_rows",
    "all_finite",
    "bernoulli",
    "bernoulli_value_and_gradient",
    "binarize",
    "dense_activation",
    "dense_input_gradient",
    "dense_parameter_gradients",
    "gaussian_kl_value_and_gradient",
    "matmul",
    "matmul_transposed_left",
    "matmul_transposed_right",
    "philox4x32",
    "philox_uint32",
    "reparameterize",
    "reparameterize_gradient",
    "sgd_update",
    "standard_normal",
    "uniform",
    "vae_gradients",
]
