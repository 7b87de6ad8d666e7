"""The kernels in plain NumPy: the explanation of the compiled ones, and what they are checked against."""

from scratchvae.kernels.reference.elementwise import (
    all_finite,
    bernoulli_value_and_gradient,
    gaussian_kl_value_and_gradient,
    reparameterize,
    reparameterize_gradient,
)
from scratchvae.kernels.reference.fused_dense import (
    dense_activation,
    dense_input_gradient,
    dense_parameter_gradients,
)
from scratchvae.kernels.reference.matmul import matmul, matmul_transposed_left, matmul_transposed_right
from scratchvae.kernels.reference.optimizers import adam_update, sgd_update
from scratchvae.kernels.reference.outer_products import (
    add_mean_and_squares,
    add_outer_products,
    add_shifted_rows,
)
from scratchvae.kernels.reference.philox import (
    bernoulli,
    binarize,
    philox4x32,
    philox_uint32,
    standard_normal,
    uniform,
)
from scratchvae.kernels.reference.vae_gradients import vae_gradients

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
