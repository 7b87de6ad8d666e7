"""The helper for test suites: silent when all is well, an AssertionError that tells everything when not."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.models.vae import VAE
from scratchvae.testing import assert_gradients

pytest_plugins = ["pytester"]


def test_a_right_gradient_gives_its_report() -> None:
    report = assert_gradients(lambda x: (x**2).sum(), gradient=lambda x: 2 * x, inputs=[np.arange(3.0)])
    assert report.passed
    assert assert_gradients(VAE(3, (), 2, rng=0), batch_size=2).passed


def test_a_wrong_gradient_is_an_assertion_error_with_the_whole_report() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_gradients(lambda x: (x**2).sum(), gradient=lambda x: x, inputs={"x": np.arange(3.0)})
    for words in (
        "FAILED",
        "x[2]: analytic 2; complex step 4",
        "a constant factor 1/2",
        "tensor='x', index=(2,), rng=0)",
    ):
        assert words in str(caught.value)


def test_pytest_shows_the_report_and_no_insides_of_the_checker(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import numpy as np
        from scratchvae.testing import assert_gradients

        def test_square():
            assert_gradients(lambda x: (x**2).sum(), gradient=lambda x: x, inputs=[np.ones(2)])
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*looks like: a constant factor 1/2*"])
    result.stdout.no_fnmatch_line("*raise_if_failed()*")
    result.stdout.no_fnmatch_line("*raise AssertionError*")
