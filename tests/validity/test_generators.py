"""Simulated studies hold what they say is planted in them: closed forms, and the statistic that an artefact fools."""

import numpy as np
import pytest

from phaselens.dynamics.regimes import ratio_norm, ratio_without_first
from phaselens.errors import UnknownNameError
from phaselens.statistics.separation import best_partition, uniform_null
from phaselens.validity import simulated_gd, simulated_panels, simulated_regimes

M = 8
CRITICAL = {m: np.quantile(uniform_null(m, np.random.default_rng(0)), 0.95) for m in (8, 12)}


def rng(seed=0):
    return np.random.default_rng(seed)


def instability(panel, *, twins=False):
    return [m.at_layer("instability", 1) for m in panel.models if m.info.twin == twins]


def medians(panel, ratio=lambda ct: ratio_norm(ct).value):
    return np.array([np.nanmedian(np.log(ratio(ct))) for ct in instability(panel)])


def log_gd(model, suffix="", layer=slice(None)):
    g, d = (model.per_layer(c + suffix)[:, :, layer] for c in ("top1", "rivalry"))
    return np.log(g.mean() / d.mean())


def over_all_values(ct):
    return np.nanmax(ct, axis=1) / np.nanmean(ct, axis=1)


@pytest.mark.parametrize("shape", simulated_panels.SHAPES)
def test_shapes_have_mean_zero_and_unit_spread(shape):
    x = simulated_panels.one_peak(shape, 200_000, rng())
    assert x.mean() == pytest.approx(0, abs=0.01) and x.std() == pytest.approx(1, abs=0.01)
    skew = (x**3).mean()
    assert skew == pytest.approx(2.0 if shape == "skewed" else 0.0, abs=0.15)


def test_an_unknown_shape_is_named():
    with pytest.raises(UnknownNameError, match="normal"):
        simulated_panels.one_peak("norml", 8, rng())


def test_two_groups_lie_as_far_apart_as_said():
    x = np.array([simulated_panels.two_groups(8.0, M, rng(k)) for k in range(2000)])
    upper = simulated_panels.upper_group(M)
    assert upper.sum() == 3
    assert x[:, upper].mean() - x[:, ~upper].mean() == pytest.approx(8, abs=0.06)
    assert x[:, upper].std() == pytest.approx(1, abs=0.03)


def test_the_kept_null_is_a_null_of_s_and_leaves_the_generator_alone():
    g = rng(5)
    kept = simulated_panels.kept_null(8, g)
    assert g.random() == rng(5).random()
    assert len(kept) == 20_000 and np.quantile(kept, 0.95) == pytest.approx(CRITICAL[8], abs=0.004)
    assert simulated_panels.kept_null(8, rng(6)) is kept and not kept.flags.writeable
    assert len(simulated_panels.kept_null(60, g, n_draws=8_000)) == simulated_panels.ROUGH_DRAWS


def test_a_peak_gives_exactly_the_ratio_in_both_windows():
    wanted = np.log(np.array([[1.3, 2.0], [5.0, 30.0]]))
    ct = simulated_regimes.peaked(wanted, rng())
    assert np.isnan(ct[..., :2]).all() and np.isfinite(ct[..., 2:]).all()
    for row, log_ratio in zip(ct.reshape(-1, ct.shape[-1]), wanted.ravel(), strict=True):
        assert np.log(ratio_norm(row[None]).value[0]) == pytest.approx(log_ratio, abs=1e-12)
        assert np.log(ratio_without_first(row[None]).value[0]) == pytest.approx(log_ratio, abs=0.02)


def test_regimes_are_planted_in_the_medians():
    values = simulated_panels.two_groups(8, M, rng(3))  # the first draw of the generator
    found = medians(simulated_regimes.with_regimes(rng(3), gap=8, m=M))
    shift = (found - simulated_regimes.CENTRE) / simulated_regimes.UNIT - values
    assert np.ptp(shift) < 1.0  # prompts shift all models alike
    upper = simulated_panels.upper_group(M)
    assert found[upper].min() - found[~upper].max() > 4 * simulated_regimes.UNIT


def test_an_outlier_state_splits_ratio_norm_and_not_what_comes_after():
    panel = simulated_regimes.outlier_states(rng(), m=M)
    assert best_partition(medians(panel))[0] > CRITICAL[8]
    later = medians(panel, lambda ct: ratio_without_first(ct).value)
    upper = simulated_panels.upper_group(M)
    gap = medians(panel)[upper].mean() - medians(panel)[~upper].mean()
    assert gap > 1.2 and abs(later[upper].mean() - later[~upper].mean()) < 0.1 * gap


def test_frozen_tails_raise_ratio_norm_by_the_closed_form():
    panel = simulated_regimes.frozen_tails(rng(), m=M)
    upper = simulated_panels.upper_group(M)
    found = medians(panel)
    # 28 of 72 states stand still, all of them within the first 66 or after: r0 / (1 - f) over the window
    frozen = np.array([np.nanmean(m.at_layer("frozen", 1)[:, 2:66]) for m in panel.trained])
    assert (frozen[~upper] == 0).all() and (frozen[upper] > 0.25).all()
    assert found[upper] + np.log1p(-frozen[upper]) == pytest.approx(found[~upper].mean(), abs=0.06)
    assert best_partition(found)[0] > CRITICAL[8]


def test_unequal_lengths_split_the_ratio_over_all_values_and_not_that_over_64():
    hits = [0, 0]
    for seed in range(12):
        panel = simulated_regimes.unequal_lengths(rng(seed), m=M)
        hits[0] += best_partition(medians(panel, over_all_values))[0] > CRITICAL[8]
        hits[1] += best_partition(medians(panel))[0] > CRITICAL[8]
        short = [int((m.runs["n_generated"] < 66).sum()) for m in panel.trained]
        assert short == [0, 0, 0] + [12] * 5
    assert hits[0] >= 6 and hits[1] <= 1


def test_seed_twins_are_declared_and_close():
    panel = simulated_regimes.of_seeds(rng(), recipes=5, seeds=3)
    assert [m.info.twin_of for m in panel.trained] == [None] * 5 + ["m0"] * 3
    found = medians(panel)
    assert np.ptp(found[[0, 5, 6, 7]]) < np.ptp(found[:5])


def test_untrained_twins_have_the_split_of_architecture_and_no_other():
    for module, value in ((simulated_regimes, None), (simulated_gd, log_gd)):
        panel = module.of_architecture(rng(), gap=10, m=M)
        if value is None:
            trained, twins = (
                np.array([np.median(np.log(ratio_norm(ct).value)) for ct in instability(panel, twins=t)])
                for t in (False, True)
            )
        else:
            trained, twins = (np.array([value(m) for m in panel.models if m.info.twin == t]) for t in (False, True))
        assert np.corrcoef(trained, twins)[0, 1] > 0.98


def test_cells_have_the_planted_gd_ratio_and_one_entropy():
    wanted = np.array([-0.5, 0.0, 0.45])
    logits = simulated_gd.cells(np.repeat(wanted[:, None], simulated_gd.LAYERS, axis=1), rng())
    columns = simulated_gd.lens_columns(logits)
    found = np.log(columns["top1"].mean(axis=(1, 2, 3)) / columns["rivalry"].mean(axis=(1, 2, 3)))
    assert found == pytest.approx(wanted, abs=0.05)
    assert columns["entropy_norm"].mean(axis=(1, 2, 3)) * np.log(100) == pytest.approx(simulated_gd.ENTROPY, abs=0.03)


def test_columns_are_those_of_the_observables():
    torch = pytest.importorskip("torch")
    from phaselens.observables import distribution as real

    logits = 2 * rng().standard_normal((5, 40))
    p = torch.softmax(torch.tensor(logits), dim=-1)
    top = torch.sort(p.log(), descending=True).values[:, :10]
    theirs = {
        "top1": real.top1(top),
        "rivalry": real.rivalry(top),
        "top10_mass": real.top10_mass(top),
        "entropy_norm": real.entropy_norm(torch.special.entr(p).sum(-1), torch.tensor(np.log(40))),
        "dispersion": real.dispersion((p > 0.01).sum(-1)),
    }
    ours = simulated_gd.lens_columns(logits)
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        assert ours[name] == pytest.approx(values.numpy(), abs=1e-6), name


def test_tokens_of_probability_zero_move_only_the_normalised_entropy():
    logits = rng().standard_normal((6, 50))
    dead = np.concatenate([logits, np.full((6, 50), -1e4)], axis=1)
    alive, doubled = simulated_gd.lens_columns(logits), simulated_gd.lens_columns(dead)
    for name in ("top1", "rivalry", "top10_mass", "dispersion"):
        assert doubled[name] == pytest.approx(alive[name], abs=1e-12)
    assert doubled["entropy_norm"] == pytest.approx(simulated_gd.lens_columns(logits, 100)["entropy_norm"], abs=1e-12)


def test_temperature_alone_splits_gd_and_the_matched_version_undoes_it():
    panel = simulated_gd.of_temperature(rng(), m=12)
    plain, matched = (np.array([log_gd(m, s) for m in panel.trained]) for s in ("", "__tmatch"))
    upper = simulated_panels.upper_group(12)
    gap = plain[upper].mean() - plain[~upper].mean()
    assert gap > 0.8 and best_partition(plain)[0] > CRITICAL[12]
    assert abs(matched[upper].mean() - matched[~upper].mean()) < 0.2 * gap


def test_a_split_of_one_lens_or_of_inner_layers_is_nowhere_else():
    upper = simulated_panels.upper_group(12)

    def gap(panel, suffix="", layer=slice(None)):
        x = np.array([log_gd(m, suffix, layer) for m in panel.trained])
        return x[upper].mean() - x[~upper].mean()

    one = simulated_gd.of_one_lens(rng(), gap=10, m=12)
    assert gap(one) == pytest.approx(1.0, abs=0.25) and abs(gap(one, "__raw")) < 0.3
    inner = simulated_gd.of_inner_layers(rng(), gap=15, m=12)
    assert gap(inner, layer=slice(0, 1)) == pytest.approx(1.5, abs=0.25) and abs(gap(inner, layer=slice(1, 2))) < 0.2


@pytest.mark.parametrize(
    "make", [lambda g: simulated_regimes.with_regimes(g, gap=8, m=M), lambda g: simulated_gd.with_split(g, gap=8, m=M)]
)
def test_same_seed_same_study(make):
    a, b, c = make(rng(1)), make(rng(1)), make(rng(2))
    column = "instability" if "instability" in a.models[0].layers else "top1"
    values = [np.nan_to_num(np.asarray(p.models[0].layers[column])) for p in (a, b, c)]
    assert (values[0] == values[1]).all() and (values[0] != values[2]).any() and a.seed == b.seed != c.seed
