"""The hot loops, twice: plain NumPy to read and to check against, numba to run.

The environment variable ``SCRATCHVAE_KERNELS`` chooses, once, at import:

``compiled`` (the default)
    `scratchvae.kernels.compiled`: numba, parallel, cached on disk after the first use.
``reference``
    `scratchvae.kernels.reference`: the same functions in plain NumPy. numba is then never imported.

Both folders define the same names with the same signatures, so the rest of the package says
``kernels.matmul(a, b)`` and does not know which it gets. `BACKEND` tells. Kernels check nothing: arguments
are checked where they enter the package.
"""

import os

BACKEND = os.environ.get("SCRATCHVAE_KERNELS", "compiled")

if BACKEND == "compiled":
    from scratchvae.kernels.compiled import *
    from scratchvae.kernels.compiled import __all__ as _names
elif BACKEND == "reference":
    from scratchvae.kernels.reference import *
    from scratchvae.kernels.reference import __all__ as _names
else:
    raise ValueError(
        f"the environment variable SCRATCHVAE_KERNELS is {BACKEND!r}; expected 'compiled' or 'reference'; "
        "unset it to get 'compiled'"
    )

__all__ = ["BACKEND", *_names]  # noqa: PLE0604 - the names are strings
