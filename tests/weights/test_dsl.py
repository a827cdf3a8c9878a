"""Dynamic Sparse Learning: the budget to the unit, and each choice against brute force."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rarefy.weights import DSL, DynamicMasks, Gather, Masks, random_mask, random_masks
from rarefy.weights.dense_gradients import DenseGradients


class Tables(nn.Module):
    """Two tables whose loss reaches the rows of a batch only."""

    def __init__(self, rows=(12, 9), dim=6):
        super().__init__()
        g = torch.Generator().manual_seed(3)
        self.user, self.item = (
            nn.Embedding(n, dim, _weight=torch.randn(n, dim, generator=g)) for n in rows
        )

    def loss(self, users, items):
        return (self.user(users) * self.item(items)).sum(-1).sub(1).square().mean()


def batches(count, seed=1):
    g = torch.Generator().manual_seed(seed)
    return [[torch.randint(n, (5,), generator=g) for n in (12, 9)] for _ in range(count)]


def begin(rule, *, steps=24, every=4, density=0.3, tables=None, seed=0):
    tables = tables or Tables()
    g = torch.Generator().manual_seed(seed)
    masks = random_masks(dict(tables.named_parameters()), density=density, generator=g)
    adam = torch.optim.Adam(tables.parameters(), lr=0.05)
    held = DynamicMasks(tables, masks, adam, rule=rule, steps=steps, every=every, generator=g)
    return tables, adam, held


def step(tables, adam, batch):
    adam.zero_grad()
    tables.loss(*batch).backward()
    adam.step()


RULES = [
    DSL(),
    DSL(grow="accumulated", scope="group"),
    DSL(grow="momentum", prune="set"),
    DSL(grow="random", prune="taylor"),
    DSL(prune="taylor", min_per_row=1, scope="group"),
    DSL(prune="set", min_per_row=2),
    DSL(prune="random", min_per_row=1),
    DSL(grow="accumulated", sample=0.4),
    DSL(grow="momentum", sample=0.4, scope="group"),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_budget_holds_at_every_step_and_pruned_entries_leave_no_trace(rule):
    tables, adam, held = begin(rule)
    counts = {name: int(mask.sum()) for name, mask in held.masks.items()}
    for batch in batches(24):
        step(tables, adam, batch)
        assert held.masks.nnz == sum(counts.values())
        if rule.scope == "tensor":
            assert {name: int(mask.sum()) for name, mask in held.masks.items()} == counts
        for name, weight in tables.named_parameters():
            pruned = ~held.masks[name]
            # Bits: not even a negative zero.
            assert not weight.detach()[pruned].view(torch.int32).any()
            for slot in ("exp_avg", "exp_avg_sq"):
                assert not adam.state[weight][slot][pruned].any()
    assert len(held.history) >= 2
    assert held.ever_active() > held.masks.density()


def brute_force(rule, weight, mask, gradient, count):
    """Prune one entry at a time, then grow one at a time."""
    mask, flat = mask.clone().flatten(), weight.flatten()
    slope = gradient.flatten()
    columns = weight.shape[1]
    importance = (flat * slope).abs() if rule.prune == "taylor" else flat.abs()
    spared = set()
    for row in range(len(weight)):
        own = [i for i in range(row * columns, (row + 1) * columns) if mask[i]]
        spared |= set(sorted(own, key=lambda i: (-importance[i], i))[: rule.min_per_row])
    free = [i for i in range(len(flat)) if mask[i] and i not in spared]
    least = sorted(free, key=lambda i: (importance[i], -i))
    count = min(count, len(free))
    if rule.prune == "set":
        up, down = [i for i in least if flat[i] >= 0], [i for i in least if flat[i] < 0]
        half = min(max(math.ceil(count / 2), count - len(down)), len(up))
        gone = up[:half] + down[: count - half]
    else:
        gone = least[:count]
    mask[gone] = False
    outside = [i for i in range(len(flat)) if not mask[i]]
    mask[sorted(outside, key=lambda i: (-slope[i].abs(), i))[:count]] = True
    return mask.view(weight.shape)


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(["magnitude", "set", "taylor"]),
    st.integers(0, 2),
    st.floats(0, 1),
    st.floats(0, 0.95),
    st.integers(0, 10**6),
)
def test_an_update_against_brute_force(prune, min_per_row, drop, progress, seed):
    rule = DSL(drop=drop, floor=min(drop, 0.1), prune=prune, min_per_row=min_per_row)
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(7, 5, generator=g) < 0.5
    # Few values, so that there are ties.
    weight = torch.randint(-3, 4, mask.shape, generator=g).float() * mask
    gradient = torch.randint(-4, 5, mask.shape, generator=g).float()
    after = rule(
        {"w": weight}, Masks({"w": mask}), progress=progress, gradients={"w": gradient}, generator=g
    )["w"]
    share = rule.floor + (drop - rule.floor) / 2 * (1 + math.cos(math.pi * progress))
    count = math.ceil(share * int(mask.sum()) - 1e-9)
    expected = brute_force(rule, weight, mask, gradient, count)
    assert after.equal(expected)


def test_a_group_is_one_tensor_cut_in_two():
    g = torch.Generator().manual_seed(0)
    weight, gradient = torch.randn(2, 20, 6, generator=g)
    mask = torch.rand(20, 6, generator=g) < 0.4
    weight = weight * mask
    # The second half matters ten times as much, so entries move there.
    gradient[12:] *= 10
    whole = DSL()(
        {"w": weight}, Masks({"w": mask}), progress=0.1, gradients={"w": gradient}, generator=g
    )["w"]
    parts = [dict(zip("ab", x.split([12, 8]), strict=True)) for x in (weight, mask, gradient)]
    after = DSL(scope="group")(
        parts[0], Masks(parts[1]), progress=0.1, gradients=parts[2], generator=g
    )
    assert torch.cat([after["a"], after["b"]]).equal(whole)
    assert after["b"].sum() > mask[12:].sum()


def test_the_share_falls_to_its_floor_and_the_last_step_moves_nothing():
    tables, adam, held = begin(DSL(grow="random"), steps=40, every=4)
    pruned = []
    held._rule = _Spy(held._rule, pruned)
    for batch in batches(40):
        step(tables, adam, batch)
    nnz = held.masks["user.weight"].sum().item()
    shares = [0.005 + 0.495 / 2 * (1 + math.cos(math.pi * t / 40)) for t in range(4, 40, 4)]
    assert pruned == [math.ceil(share * nnz - 1e-9) for share in shares]
    assert held.history[-1].step < 40


class _Spy:
    def __init__(self, rule, counts):
        self.rule, self.counts, self.by_gradient = rule, counts, rule.by_gradient
        pruned = rule._pruned

        def spying(kept, *parts):
            if "user.weight" in kept:
                counts.append(parts[-1])
            return pruned(kept, *parts)

        object.__setattr__(rule, "_pruned", spying)

    def __call__(self, *args, **how):
        return self.rule(*args, **how)


@pytest.mark.parametrize("grow", ["gradient", "accumulated", "momentum"])
def test_growth_reads_the_gradients_it_says(grow):
    tables, adam, held = begin(DSL(grow=grow, scope="group"), every=4)
    dense, masks = [], held.masks
    for batch in batches(4):
        loss = tables.loss(*batch)
        dense.append(torch.autograd.grad(loss, [tables.user.weight, tables.item.weight]))
        if len(dense) == 4:
            seen = {}
            rule = held._rule
            held._rule = _Reading(rule, seen)
        step(tables, adam, batch)
    for place, name in enumerate(masks):
        history = [gradients[place] for gradients in dense]
        if grow == "gradient":
            expected = history[-1]
        elif grow == "accumulated":
            expected = sum(gradient.abs() for gradient in history)
        else:
            expected = sum(0.1 * 0.9 ** (3 - t) * gradient for t, gradient in enumerate(history))
        torch.testing.assert_close(seen[name], expected)
    if grow == "accumulated":
        assert not held._gradients.read()


class _Reading:
    def __init__(self, rule, seen):
        self.rule, self.seen, self.by_gradient = rule, seen, rule.by_gradient

    def __call__(self, weights, masks, *, gradients, **how):
        self.seen.update({name: gradient.clone() for name, gradient in gradients.items()})
        return self.rule(weights, masks, gradients=gradients, **how)


@pytest.mark.parametrize("grow", ["gradient", "accumulated"])
def test_gradients_in_parts_are_one_gradient(grow):
    # Kept entries' gradients matter to Taylor's criterion, pruned ones' to growth.
    seen = []
    for parts in (1, 3):
        tables, adam, held = begin(DSL(prune="taylor", grow=grow), every=1)
        seen.append({})
        held._rule = _Reading(held._rule, seen[-1])
        users, items = (torch.cat(ids) for ids in zip(*batches(3), strict=True))
        for a, b in zip(users.chunk(parts), items.chunk(parts), strict=True):
            (tables.loss(a, b) / parts).backward()
        adam.step()
    for name in seen[0]:
        torch.testing.assert_close(seen[1][name], seen[0][name])


@pytest.mark.parametrize("grow", ["gradient", "accumulated", "momentum"])
def test_a_sample_of_rows_is_the_whole_with_the_other_rows_zero(grow):
    """Beside a run that gathers all rows, from which the same rows are taken."""
    seen, grown, sizes = {}, {}, []
    for sample in (1.0, 0.25):
        rule = DSL(drop=0.1, floor=0.1, grow=grow, sample=sample)
        tables, adam, held = begin(rule, every=4)
        for place, batch in enumerate(batches(8)):
            if place in (3, 7) and sample < 1:
                sizes.append({n: len(r) for n, r in held._gradients._rows.items()})
                rows = {n: set(r.tolist()) for n, r in held._gradients._rows.items()}
            if place == 3:
                seen[sample] = {}
                rule, held._rule = held._rule, _Reading(held._rule, seen[sample])
                before = held.masks
            step(tables, adam, batch)
            if place == 3:
                held._rule = rule
                if sample < 1:
                    grown = held.masks & ~before
                    drawn = rows
        if sample < 1:
            assert any(rows[name] != drawn[name] for name in rows)
    assert sizes == [{"user.weight": 3, "item.weight": 3}] * 2
    for name, whole in seen[1.0].items():
        wanted = torch.zeros_like(whole)
        picked = sorted(drawn[name])
        wanted[picked] = whole[picked]
        torch.testing.assert_close(seen[0.25][name], wanted)
        moved = math.ceil(0.1 * int(before[name].sum()))
        enough = int((wanted.ne(0) & ~before[name]).sum()) >= moved
        assert enough or grow == "gradient"
        if enough:
            assert set(grown[name].nonzero()[:, 0].tolist()) <= drawn[name]


def test_a_running_mean_begins_anew_with_every_sample():
    weight = torch.zeros(6, 2)
    pruned = torch.ones_like(weight, dtype=torch.bool)
    g = torch.Generator().manual_seed(0)
    kept = DenseGradients(Gather("momentum", rows=0.5), {"w": weight}, g)
    for interval in range(3):
        rows = kept.state_dict()["rows"]["w"]
        for value in (1.0, 2.0):
            kept.add("w", torch.full((6, 2), value + interval), pruned)
            kept.end_step()
            kept.clear()
        wanted = torch.zeros_like(weight)
        wanted[rows] = 0.09 * (1 + interval) + 0.1 * (2 + interval)
        torch.testing.assert_close(kept.read()["w"], wanted)
        kept.end_interval()


def test_rows_keep_what_pruning_spares():
    tables = Tables()
    g = torch.Generator().manual_seed(0)
    masks = Masks(
        {
            name: random_mask(tuple(p.shape), 14, generator=g, avoid_dead=True)
            for name, p in tables.named_parameters()
        }
    )
    least = {}
    for min_per_row in (0, 1):
        tables = Tables()
        adam = torch.optim.Adam(tables.parameters(), lr=0.05)
        rule = DSL(drop=0.9, floor=0.5, min_per_row=min_per_row)
        held = DynamicMasks(tables, masks, adam, rule=rule, steps=99, every=1, generator=g)
        for batch in batches(12):
            step(tables, adam, batch)
        least[min_per_row] = min(int(mask.sum(1).min()) for mask in held.masks.values())
    assert least == {0: 0, 1: 1}


@pytest.mark.parametrize("sample", [1.0, 0.4])
def test_a_resumed_run_is_bit_identical(sample):
    rule = DSL(grow="accumulated", sample=sample)
    tables, adam, held = begin(rule)
    data = batches(24)
    for batch in data[:10]:
        step(tables, adam, batch)
    saved = copy.deepcopy([tables.state_dict(), adam.state_dict(), held.state_dict()])
    for batch in data[10:]:
        step(tables, adam, batch)
    twin, other, again = begin(rule, seed=5)
    for part, state in zip((twin, other, again), saved, strict=True):
        part.load_state_dict(state)
    for batch in data[10:]:
        step(twin, other, batch)
    assert twin.user.weight.equal(tables.user.weight) and again.history == held.history
    assert again.ever_active() == held.ever_active()


def test_bad_requests():
    with pytest.raises(ValueError, match="floor and drop must be shares with floor <= drop"):
        DSL(drop=0.1, floor=0.2)
    with pytest.raises(ValueError, match="grow must be one of .*, got 'often'"):
        DSL(grow="often")
    for sample in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"sample must be in \(0, 1\], got"):
            DSL(sample=sample)
        with pytest.raises(ValueError, match="sampled share of rows must be in"):
            Gather(rows=sample)
    for how in ({"grow": "random"}, {"prune": "taylor"}):
        with pytest.raises(ValueError, match="sample is for growth by gradients"):
            DSL(sample=0.5, **how)
    with pytest.raises(ValueError, match="min_per_row must not be negative"):
        DSL(min_per_row=-1)
    table = nn.Embedding(4, 3, sparse=True)
    with pytest.raises(ValueError, match="weight belongs to an embedding with sparse=True"):
        DynamicMasks(
            table,
            Masks.ones({"weight": table.weight}),
            torch.optim.SGD(table.parameters(), lr=0.1),
            rule=DSL(),
            steps=2,
            generator=torch.Generator(),
        )
