import numpy as np
import pytest

from morphobench.corrections.whitening import principal_axes, scale_along


@pytest.mark.parametrize(("rows", "columns"), [(50, 6), (6, 50), (20, 20)])
def test_axes_rebuild_the_covariance(rows, columns):
    x = np.random.default_rng(0).normal(size=(rows, columns))
    x -= x.mean(0)
    axes = principal_axes(x)
    assert len(axes.values) == np.linalg.matrix_rank(x)
    np.testing.assert_allclose(axes.vectors.T @ axes.vectors, np.eye(len(axes.values)), atol=1e-8)
    np.testing.assert_allclose((axes.vectors * axes.values) @ axes.vectors.T, x.T @ x / rows, atol=1e-9)
    assert (np.diff(axes.values) <= 0).all()


def test_no_axes_without_variation():
    assert len(principal_axes(np.zeros((4, 3))).values) == 0
    assert len(principal_axes(np.zeros((2, 3))).values) == 0


def test_scale_along_is_the_dense_product():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(7, 9))
    vectors = np.linalg.qr(rng.normal(size=(9, 4)))[0]
    factors = rng.uniform(1, 2, 4)
    dense = (vectors * factors) @ vectors.T + 0.3 * (np.eye(9) - vectors @ vectors.T)
    np.testing.assert_allclose(scale_along(x, vectors, factors, 0.3), x @ dense, atol=1e-12)
