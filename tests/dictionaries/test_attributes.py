"""Supervised dictionaries against numpy's least squares, and activations that are sums."""

import numpy as np
import pytest
import torch

from rarefy.dictionaries.attributes import attribute_dictionary


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def labels(n, *sizes, seed=0):
    g = seeded(seed)
    return {f"a{i}": torch.randint(size, (n,), generator=g) for i, size in enumerate(sizes)}


def planted(attributes, *shape, seed=1):
    """Activations that are a sum of one vector for each attribute."""
    g = seeded(seed)
    tables = {
        name: torch.randn(int(v.max()) + 1, *shape, generator=g) for name, v in attributes.items()
    }
    return sum(table[attributes[name]] for name, table in tables.items()), tables


def one_hot(attributes):
    return np.concatenate(
        [np.eye(int(v.max()) + 1)[v.numpy()] for v in attributes.values()], axis=1
    )


def test_mse_is_the_least_squares_solution_of_least_norm():
    attributes = labels(60, 4, 3, 2)
    a = torch.randn(60, 5, generator=seeded())
    fitted = attribute_dictionary(a, attributes)
    design = one_hot(attributes)
    assert np.linalg.matrix_rank(design) < design.shape[1]
    wanted = np.linalg.lstsq(design, (a - a.mean(0)).numpy().astype(float))[0]
    found = torch.cat(list(fitted.vectors.values()))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_mean_is_the_conditional_mean():
    attributes = labels(80, 3, 2)
    a = torch.randn(80, 4, generator=seeded())
    fitted = attribute_dictionary(a, attributes, method="mean")
    for name, values in attributes.items():
        for value in values.unique():
            wanted = a[values == value].mean(0) - a.mean(0)
            torch.testing.assert_close(fitted.vectors[name][value], wanted)


def test_sums_are_reconstructed_and_edited_exactly():
    # Dependent attributes too: the second is drawn near the first.
    attributes = labels(200, 5, 4)
    attributes["a1"] = (attributes["a0"] + attributes["a1"] // 2) % 4
    a, tables = planted(attributes, 3, 6)
    fitted = attribute_dictionary(a, attributes)
    torch.testing.assert_close(fitted.reconstruct(attributes), a, atol=1e-4, rtol=0)
    old, new = attributes["a0"], (attributes["a0"] + 1) % 5
    wanted = a - tables["a0"][old] + tables["a0"][new]
    torch.testing.assert_close(fitted.edit(a, "a0", old, new), wanted, atol=1e-4, rtol=0)


def test_means_of_independent_attributes_are_the_least_squares():
    # Every combination once: exactly independent.
    grid = torch.cartesian_prod(torch.arange(4), torch.arange(3))
    attributes = {"x": grid[:, 0], "y": grid[:, 1]}
    a, _ = planted(attributes, 5)
    for method in ("mean", "mse"):
        fitted = attribute_dictionary(a, attributes, method=method)
        torch.testing.assert_close(fitted.reconstruct(attributes), a, atol=1e-5, rtol=0)


def test_dependent_means_count_twice_and_warn():
    x = torch.arange(4).repeat(50)
    attributes = {"x": x, "copy": x}
    a = torch.randn(4, 3, generator=seeded())[x]
    with pytest.warns(UserWarning, match="'x' and 'copy' are dependent .correlation 1.00"):
        fitted = attribute_dictionary(a, attributes, method="mean")
    twice = a.mean(0) + 2 * (a - a.mean(0))
    torch.testing.assert_close(fitted.reconstruct(attributes), twice)


def test_attention_terms_sum_to_the_score():
    attributes = labels(50, 3, 2)
    q = attribute_dictionary(planted(attributes, 2, 4, seed=1)[0], attributes)
    k = attribute_dictionary(planted(attributes, 2, 4, seed=2)[0], attributes)
    terms = q.decompose_attention(k, attributes)
    assert terms.shape == (50, 2, 3, 3)
    score = (q.reconstruct(attributes) * k.reconstruct(attributes)).sum(-1) / 2
    torch.testing.assert_close(terms.sum((-1, -2)), score, atol=1e-4, rtol=0)
    direct = q.vector("a0", attributes["a0"]) * k.vector("a1", attributes["a1"])
    torch.testing.assert_close(terms[..., 1, 2], direct.sum(-1) / 2)


def test_values_never_seen_are_named():
    fitted = attribute_dictionary(torch.randn(3, 2), {"x": torch.tensor([0, 1, 3])})
    for value in (2, 4, -1):
        with pytest.raises(KeyError, match=f"value {value} of 'x' was not among those fitted"):
            fitted.vector("x", torch.tensor([0, value]))
    with pytest.raises(KeyError, match="no attribute 'y'; there are x"):
        fitted.edit(torch.zeros(1, 2), "y", torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(KeyError, match="attributes lacks 'x'"):
        fitted.reconstruct({})


def test_bad_input():
    a = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="attributes is empty"):
        attribute_dictionary(a, {})
    with pytest.raises(ValueError, match=r"attribute 'x' has shape \(2,\), expected \(3,\)"):
        attribute_dictionary(a, {"x": torch.zeros(2, dtype=torch.long)})
    with pytest.raises(ValueError, match="method is 'pca', expected 'mse' or 'mean'"):
        attribute_dictionary(a, {"x": torch.zeros(3, dtype=torch.long)}, method="pca")
    with pytest.raises(ValueError, match="wants values from 0"):
        attribute_dictionary(a, {"x": torch.tensor([0, -1, 2])})
