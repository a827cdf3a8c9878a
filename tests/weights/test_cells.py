"""Cells: the supernet against a slow sum, found networks against the supernet, and the space."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from rarefy.weights import (
    DARTS_OPS,
    CellSpace,
    Genotype,
    RandomSearch,
    Term,
    build,
    gradient_norm_proxy,
    snip_proxy,
    synflow_proxy,
)
from rarefy.weights.cell_network import reductions
from rarefy.weights.genotype import KNOWN_OPS

SPACE = CellSpace(KNOWN_OPS, nodes=2, cells=3, channels=4)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def x(generator):
    return torch.randn(6, 1, 8, 8, generator=generator)


@pytest.mark.parametrize("seed", range(4))
def test_a_found_network_is_the_supernet_with_one_hot_alpha(seed, generator, x):
    (genotype,) = SPACE.sample(1, torch.Generator().manual_seed(seed))
    supernet = SPACE.supernet(classes=5, in_channels=1, generator=generator)
    found = build(
        genotype, channels=4, cells=3, classes=5, in_channels=1, affine=False, generator=generator
    )
    place = {
        (node, op, state): i
        for node, terms in enumerate(supernet.genotype.normal)
        for i, (op, state) in enumerate(terms)
    }
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            parts = name.split(".")
            if "terms" in parts:
                # cells.C.nodes.N.terms.T. ... : the term's place in the supernet is another.
                cell, node, term = int(parts[1]), int(parts[3]), int(parts[5])
                cells = genotype.reduction if found.cells[cell].halves else genotype.normal
                parts[5] = str(place[node, *cells[node][term]])
            parameter.copy_(supernet.get_parameter(".".join(parts)))
    alphas = []
    for cell in (genotype.normal, genotype.reduction):
        alpha = torch.zeros(SPACE.edges, len(SPACE.ops))
        alpha[:, SPACE.ops.index("none")] = 1e4
        for i, node in enumerate(cell):
            first = sum(j + 2 for j in range(i))
            for op, state in node:
                alpha[first + state, SPACE.ops.index("none")] = 0
                alpha[first + state, SPACE.ops.index(op)] = 1e4
        alphas.append(alpha)
    assert SPACE.derive(alphas) == genotype
    torch.testing.assert_close(found(x), supernet(x, SPACE.mixture(alphas)), atol=1e-5, rtol=0)


@pytest.fixture
def trained(generator, x):
    """A supernet whose batch norms have seen data."""
    supernet = SPACE.supernet(classes=5, in_channels=1, generator=generator)
    shares = SPACE.mixture([torch.randn(SPACE.edges, len(SPACE.ops), generator=generator)] * 2)
    with torch.no_grad():
        for _ in range(3):
            supernet(x, shares)
    return supernet.eval()


def found_within(supernet, genotype):
    """The network of a genotype, with its share of a supernet's weights and statistics."""
    found = build(
        genotype,
        channels=4,
        cells=3,
        classes=5,
        in_channels=1,
        affine=False,
        generator=torch.Generator(),
    ).eval()
    for name, module in found.named_modules():
        parts = name.split(".")
        if "nodes" not in parts or len(parts) < 4:
            continue
        cell, i = found.cells[int(parts[1])], int(parts[3])
        terms = (genotype.reduction if cell.halves else genotype.normal)[i]
        every = supernet.genotype.normal[i]
        node = supernet.cells[int(parts[1])].nodes[i]
        if parts[-1] == "norm" and len(parts) == 5:
            # The supernet's norm is one over its operations in order; so is the found one's.
            places = [every.index(terms[t]) for t, _ in found.cells[int(parts[1])].nodes[i].normed]
            rows = [[p for p, _ in node.normed].index(place) for place in places]
            for key in ("running_mean", "running_var"):
                of_all = getattr(node.norm, key).view(len(node.normed), -1)
                getattr(module, key).copy_(of_all[rows].flatten())
        elif len(parts) == 6:
            module.load_state_dict(node.terms[every.index(terms[int(parts[5])])].state_dict())
    outside = {key: value for key, value in supernet.state_dict().items() if ".nodes." not in key}
    found.load_state_dict(found.state_dict() | outside)
    return found


def test_genotypes_within_a_supernet_are_networks_with_its_weights(trained, x):
    genotypes = SPACE.sample(6, torch.Generator().manual_seed(3))
    with torch.no_grad():
        outputs = SPACE.outputs(trained, genotypes, x)
        for genotype, output in zip(genotypes, outputs, strict=True):
            torch.testing.assert_close(
                output, found_within(trained, genotype)(x), atol=1e-5, rtol=1e-4
            )
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3


def test_random_search_finds_the_best_genotype_and_leaves_the_supernet(trained, x):
    y = torch.arange(len(x)) % 5
    trained.train()
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    search = RandomSearch(
        SPACE, n_samples=7, batch_size=3, generator=torch.Generator().manual_seed(1)
    ).fit(trained, x, y)
    assert trained.training
    assert all(value.equal(before[key]) for key, value in trained.state_dict().items())
    trained.eval()
    drawn = SPACE.sample(7, torch.Generator().manual_seed(1))
    losses = [float(F.cross_entropy(found_within(trained, g)(x), y).detach()) for g in drawn]
    torch.testing.assert_close(search.scores_, torch.tensor(losses), atol=1e-4, rtol=1e-4)
    assert search.best_ == drawn[losses.index(min(losses))]


@pytest.mark.parametrize("proxy", [synflow_proxy, snip_proxy, gradient_norm_proxy])
def test_proxies_rank_genotypes(trained, x, proxy):
    y = torch.arange(len(x)) % 5
    genotypes = SPACE.sample(4, torch.Generator().manual_seed(1))
    together = proxy(SPACE, trained, genotypes, x, y)
    alone = torch.cat([proxy(SPACE, trained, [g], x, y) for g in genotypes])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert len(set(together.tolist())) == 4


def test_a_node_is_the_sum_of_separately_normed_operations(generator, x):
    supernet = SPACE.supernet(classes=5, in_channels=1, generator=generator)
    cell = supernet.cells[0]
    shares = torch.rand(2 * len(SPACE.choices), generator=generator)
    stem = supernet.stem(x)
    inputs = [cell.before(stem), cell.last(stem)]
    total = 0
    for share, (op, j), term in zip(
        shares, supernet.genotype.normal[0], cell.nodes[0].terms, strict=True
    ):
        if op == "skip_connect":
            total = total + share * inputs[j]
            continue
        if op == "max_pool_3x3":
            y = nn.MaxPool2d(3, 1, 1)(inputs[j])
        elif op == "avg_pool_3x3":
            y = nn.AvgPool2d(3, 1, 1, count_include_pad=False)(inputs[j])
        else:
            y = inputs[j].relu()
            for layer in term:
                y = layer(y)
        total = total + share * F.batch_norm(y, None, None, training=True)
    second = torch.zeros(3 * len(SPACE.choices))
    output = cell(stem, stem, (shares, second))
    torch.testing.assert_close(output[:, :4], total, atol=1e-5, rtol=1e-5)
    assert not output[:, 4:].any()


def test_darts_own_layers():
    """Kernel sizes, dilation and grouping of the operations, as DARTS's code has them."""
    cell = tuple(tuple(Term(op, 0) for op in KNOWN_OPS[1:]) for _ in range(1))
    net = build(Genotype(cell, cell), channels=4, cells=1, classes=2, generator=torch.Generator())
    layers = {
        op: [
            (m.kernel_size[0], m.groups, m.dilation[0], m.padding[0])
            for m in term.modules()
            if isinstance(m, nn.Conv2d)
        ]
        for op, term in zip(KNOWN_OPS[1:], net.cells[0].nodes[0].terms, strict=True)
    }
    one = (1, 1, 1, 0)
    assert layers == {
        "skip_connect": [],
        "max_pool_3x3": [],
        "avg_pool_3x3": [],
        "sep_conv_3x3": [(3, 4, 1, 1), one, (3, 4, 1, 1), one],
        "sep_conv_5x5": [(5, 4, 1, 2), one, (5, 4, 1, 2), one],
        "dil_conv_3x3": [(3, 4, 2, 2), one],
        "dil_conv_5x5": [(5, 4, 2, 4), one],
        "conv_3x3": [(3, 1, 1, 1)],
        "conv_1x1": [one],
    }


@pytest.mark.parametrize("size", [4, 7, 9])
def test_every_size_goes_through(size, generator):
    """Odd sizes too, whose halves do not fit of themselves."""
    net = SPACE.supernet(classes=5, in_channels=1, generator=generator)
    assert net(torch.zeros(2, 1, size, size)).shape == (2, 5)


def test_reductions_stand_at_the_thirds():
    assert reductions(8) == {2, 5} and reductions(20) == {6, 13}
    assert reductions(2) == {1} and reductions(1) == set()


def test_edges_of_darts():
    assert CellSpace().edges == 14 and len(DARTS_OPS) == 8


def test_derive_keeps_the_two_strongest_states(generator):
    space = CellSpace(("none", "conv_1x1", "conv_3x3"), nodes=2)
    alpha = torch.zeros(space.edges, 3)
    alpha[:, 0] = 9.0  # none is the strongest everywhere, and never chosen
    # Second node: its states are rows 2, 3 and 4.
    alpha[0, 1] = alpha[1, 2] = 1.0
    alpha[2, 1], alpha[3, 2], alpha[4, 1] = 3.0, 2.0, 2.5
    genotype = space.derive([alpha, alpha])
    assert genotype.normal == (
        (Term("conv_1x1", 0), Term("conv_3x3", 1)),
        (Term("conv_1x1", 0), Term("conv_1x1", 2)),
    )


@given(seed=st.integers(0, 2**32), nodes=st.integers(1, 5))
def test_samples_are_valid_and_survive_json(seed, nodes):
    space = CellSpace(nodes=nodes)
    genotypes = space.sample(3, torch.Generator().manual_seed(seed))
    assert genotypes == space.sample(3, torch.Generator().manual_seed(seed))
    for genotype in genotypes:
        assert Genotype.from_json(genotype.to_json()) == genotype
        for cell in (genotype.normal, genotype.reduction):
            assert len(cell) == nodes
            assert all(len({term.state for term in node}) == 2 for node in cell)


def test_samples_are_uniform(generator):
    space = CellSpace(("none", "conv_1x1", "conv_3x3"), nodes=2)
    last = [genotype.normal[1] for genotype in space.sample(1200, generator)]
    # Three pairs of states times four pairs of operations, 100 each on average.
    counts = [last.count(node) for node in set(last)]
    assert len(counts) == 12 and min(counts) > 60


def test_building_leaves_the_global_stream_alone(generator):
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    SPACE.supernet(classes=5, generator=generator)
    assert torch.equal(torch.rand(3), wanted)


def test_outputs_want_the_spaces_own_supernet(generator, x):
    genotypes = SPACE.sample(1, generator)
    supernet = SPACE.supernet(classes=5, in_channels=1, generator=generator)
    with pytest.raises(ValueError, match="the supernet is in training mode"):
        SPACE.outputs(supernet, genotypes, x)
    other = CellSpace(nodes=2, cells=3, channels=4)
    for model in (nn.Linear(2, 2), other.supernet(classes=5, in_channels=1, generator=generator)):
        with pytest.raises(ValueError, match="must be the supernet of this space"):
            SPACE.outputs(model.eval(), genotypes, x)


def test_bad_input(generator):
    term = Term("conv_1x1", 0)
    with pytest.raises(ValueError, match="unknown operation 'conv_7x7'"):
        CellSpace(("none", "conv_7x7"))
    with pytest.raises(ValueError, match="ops must name operations"):
        CellSpace(("none",))
    with pytest.raises(ValueError, match="nodes must be at least 1, got 0"):
        CellSpace(nodes=0)
    with pytest.raises(ValueError, match="expected an operation other than 'none' on a state"):
        Genotype(((Term("conv_1x1", 2),),), ((term,),))
    with pytest.raises(ValueError, match="node 0 of the genotype has no term"):
        Genotype(((),), ((term,),))
    with pytest.raises(ValueError, match="has no node"):
        Genotype((), ((term,),))
    for text in ("{}", "[1]", '{"normal": [[1]], "reduction": []}'):
        with pytest.raises(ValueError, match="genotype"):
            Genotype.from_json(text)
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        build(Genotype(((term,),), ((term,),)), channels=0, cells=1, classes=2, generator=generator)
