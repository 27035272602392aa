"""A study folder made of plausible numbers, with everything in it that could hurt a page: hostile text, NaN, long
names.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phaselens.dynamics.published_figures import published_figures

NAN = float("nan")
LONG = "a-research-organisation/an-unreasonably-long-model-name-with-suffixes-v2.1-preview"
TRAINED = (
    # name, family, layers, width, vocabulary, parameters, ratio_norm, raw GD
    ("organism:gpt2", "gpt2", 8, 128, 1024, 1_215_744, 1.42, 2.31),
    ("organism:opt", "opt", 6, 128, 1024, 1_002_368, 1.33, 0.094),
    ("organism:neox", "gpt_neox", 8, 112, 640, 983_104, 1.47, 0.061),
    ("organism:llama", "llama", 8, 128, 1024, 1_181_312, 1.39, 1.72),
    (LONG, "gemma2", 7, 128, 640, 1_310_720, 1.56, 0.37),
)
VERSIONS = (
    ("final_norm", "final_norm", "none"),
    ("raw", "raw", "lens"),
    ("output", "output", "lens"),
    ("tmatch", "final_norm", "common temperature"),
    ("shared", "final_norm", "shared tokens"),
    ("nucleus", "final_norm", "nucleus"),
    ("topk10", "final_norm", "top ten tokens"),
    ("mass", "final_norm", "second operator"),
    ("output_tmatch", "output", "common temperature"),
)
HOSTILE = (
    "<script>alert(1)</script>",
    "</svg><img src=x onerror=alert(2)>",
    "\u202eevil\u202c",
    "\x00",
    "\n",
    "\t",
    "&amp;",
    "{{ 7*7 }}",
    "שלום",
    "مرحبا",
    "\u0301\u0301\u0301",
    "\ud800",
    "]]>",
    '"><svg onload=alert(3)>',
    "",
    "日本語",
    "👩\u200d🚀",
    "]]" + "x" * 300,
)
WORDS = (
    " the| ferry| leaves| Port| Marrow| at| nine| and| carries| salt|,| rope| and| 12| crates|.|\n|Q|:| 7| +| 5| =| 12"
).split("|")

VALIDITY = {
    "seed": 0,
    "studies": 200,
    "goal": 0.05,
    "claims": {
        "R1": {
            "false_positive_rate": 0.02,
            "false_positive_interval": [0.01, 0.05],
            "power": 0.8,
            "power_interval": [0.6, 0.9],
            "power_at": "8 SD, M = 8",
            "n": 200,
            "n_power": 50,
            "fails": [],
            "scenarios": [
                {
                    "id": "R1 null <normal>",
                    "kind": "null",
                    "n": 200,
                    "rate": 0.02,
                    "interval": [0.01, 0.05],
                    "verdicts": {"supported": 4, "rejected": 100, "open": 96},
                    "decided_by": {"open": {"S test": 96}, "rejected": {"S < .75": 100}},
                    "holds": True,
                }
            ],
        }
    },
}


def models():
    """Every (name, twin, family, layers, width, vocabulary, parameters, ratio_norm, gd) of the panel, twins last."""
    for name, family, layers, width, vocabulary, parameters, ratio, gd in TRAINED:
        yield name, False, family, layers, width, vocabulary, parameters, ratio, gd
    for k, (name, family, layers, width, vocabulary, parameters, _, _) in enumerate(TRAINED):
        yield f"{name}:untrained", True, family, layers, width, vocabulary, parameters, 1.21 + 0.02 * k, 0.55 + 0.08 * k


def put(folder: Path, name: str, rows: list[dict]) -> None:
    (folder / "results").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "results" / f"{name}.parquet")


def put_json(folder: Path, name: str, content: object) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=True), encoding="utf-8")


def panel_rows() -> list[dict]:
    rows = []
    for k, (name, twin, family, layers, width, vocabulary, parameters, ratio, gd) in enumerate(models()):
        rows.append(
            {
                "model": name,
                "family": family,
                "twin": twin,
                "parameters": parameters,
                "n_layers": layers,
                "d_model": width,
                "vocab_size": vocabulary,
                "n_prompts": 24,
                "n_runs": 48,
                "n_tokens": 48 * 72,
                "ratio_norm": ratio,
                "ratio_norm_lo": ratio - 0.03,
                "ratio_norm_hi": ratio + 0.035,
                "mean_ct": 1.9 + 0.07 * k,
                "frozen_fraction": 0.0 if not twin else 0.001 * k,
                "collapse_share": 0.0417 * (k % 4),
                "entropy_norm": 0.21 if not twin else 0.97,
                "GD_ratio": gd,
                "GD_lo": gd * 0.9,
                "GD_hi": gd * 1.12,
                "noise_floor": 2.4e-6,
            }
        )
    rows[-1] |= {"ratio_norm": NAN, "ratio_norm_lo": NAN, "ratio_norm_hi": NAN}
    rows[1] |= {"GD_lo": NAN, "GD_hi": NAN}
    return rows


def regimes(folder: Path, rng: np.random.Generator) -> None:
    runs, per_model = [], []
    for k, (name, twin, *_, ratio, _gd) in enumerate(models()):
        frozen = k == 9
        for run in range(48):
            value = NAN if frozen else float(ratio * np.exp(rng.normal(0, 0.05)))
            runs.append(
                {
                    "model": name,
                    "twin": twin,
                    "arm": ("t0.7", "greedy")[run % 2],
                    "run": run,
                    "prompt_id": f"world-{run // 2:03d}",
                    "category": "factual",
                    "ratio_norm": value,
                    "ratio_norm_32": value * 0.95,
                    "ratio_norm_128": NAN,
                    "q95_over_median": 1.2,
                    "n_values": 64,
                    "frozen_fraction": 0.0,
                    "mean_ct": 2.0,
                    "late_ct": 1.9,
                    "label": "UNDERACTIVE",
                    "outside_published": True,
                    "label_panel": "ADAPTIVE_panel",
                    "collapsed": run % 9 == 0,
                    "reason": "frozen: mean ct below 1e-8" if frozen else "",
                }
            )
        for layer_choice, shift in (("l*", 0.0), ("L", 0.06)):
            value = NAN if frozen else ratio + shift
            per_model.append(
                {
                    "model": name,
                    "twin": twin,
                    "layer_choice": layer_choice,
                    "ratio_norm": value,
                    "lo": value - 0.03,
                    "hi": value + 0.035,
                    "n_prompts": 24,
                    "n_runs": 48,
                    "share_underactive": 0.95,
                    "share_adaptive": 0.05,
                    "share_transition": 0.0,
                    "share_chaotic": 0.0,
                    "share_underactive_panel": 0.1 * (k % 5),
                    "share_adaptive_panel": 0.5,
                    "share_transition_panel": 0.3 - 0.05 * (k % 5),
                    "share_chaotic_panel": 0.2 - 0.05 * (k % 5),
                    "boot_share_underactive": 0.97,
                    "boot_share_adaptive": 0.03,
                    "boot_share_transition": 0.0,
                    "boot_share_chaotic": 0.0,
                    "boot_share_underactive_panel": 0.0,
                    "boot_share_adaptive_panel": 0.88,
                    "boot_share_transition_panel": 0.12,
                    "boot_share_chaotic_panel": 0.0,
                    "reason": "",
                }
            )
    put(folder, "regimes_runs", runs)
    put(folder, "regimes_models", per_model)
    nulls = [
        ("random walk", "", 3.152, 2.347, 4.344, "cumulative sum of Gaussian vectors; 66 states, width 128"),
        ("sphere walk", "", 1.223, 1.184, 1.262, "walk on the sphere with step 0.3; 66 states, width 128"),
        ("independent states", "", 1.187, 1.18, 1.195, "independent Gaussian vectors; 66 states, width 128"),
        ("outlier first state", "", 7.741, 6.092, 8.882, "sphere walk whose state 1 is unrelated"),
        ("frozen 25%", "", 1.663, 1.552, 1.783, "sphere walk frozen for a share f = 0.25: r0 / (1 - f)"),
        ("frozen steps left out", "organism:llama", 1.36, 1.33, 1.39, "runs of the model: r0 of r0 / (1 - f)"),
        ("untrained twin", "organism:llama", 1.27, 1.2, 1.33, "same configuration, re-initialised"),
        ("untrained twin", LONG, NAN, NAN, NAN, "same configuration, re-initialised"),
    ]
    put(
        folder,
        "regimes_nulls",
        [dict(zip(("null", "model", "ratio_norm", "lo", "hi", "description"), n, strict=True)) for n in nulls],
    )


DEPTH = (
    ("instability", 2.0),
    ("step_length", 1.1),
    ("turning_angle", 1.9),
    ("log_rms", 0.5),
    ("coherence", 0.8),
    ("state_sync", 0.1),
    ("lens_sync", 0.9),
    ("entropy", 3.2),
    ("entropy_norm", 0.5),
    ("top1", 0.4),
    ("rivalry", 0.3),
    ("kl_to_final", 2.5),
    ("agrees", 0.6),
    ("surprisal", 1.4),
)


def depth(folder: Path, rng: np.random.Generator) -> None:
    rows, gd = [], []
    for name, twin, _, layers, *_, base in models():
        for layer in range(layers + 1):
            at = layer / layers
            for observable, scale in DEPTH:
                value = (
                    scale
                    * (0.4 + 0.6 * (1 - at if observable in {"entropy", "kl_to_final"} else at))
                    * float(rng.uniform(0.9, 1.1))
                )
                if (observable, layer) in {("lens_sync", layers), ("state_sync", 0), ("state_sync", layers)}:
                    value = NAN
                rows.append(
                    {
                        "model": name,
                        "twin": twin,
                        "layer": layer,
                        "depth": at,
                        "observable": observable,
                        "value": value,
                        "lo": value * 0.95,
                        "hi": value * 1.05,
                        "n_prompts": 24,
                    }
                )
            for version in ("final_norm", "raw"):
                value = (
                    base * float(np.exp((at - 0.5) * (1 if version == "raw" else 0.4)) * rng.uniform(0.95, 1.05))
                    if layer
                    else NAN
                )
                gd.append(
                    {
                        "model": name,
                        "twin": twin,
                        "version": version,
                        "layer": layer,
                        "depth": at,
                        "GD_ratio": value,
                        "lo": value * 0.9,
                        "hi": value * 1.1,
                    }
                )
    put(folder, "depth", rows)
    put(folder, "gd_depth", gd)


def variation(folder: Path) -> None:
    """Shares of variance, ranks, concordance and stability of the trained models, by two measures."""
    shares, ranks, orders = [], [], []
    names = [name for name, twin, *_ in models() if not twin]
    size = {"n_models": len(names), "n_categories": 2, "n_prompts": 8, "n_seeds": 3, "n_runs": 240, "arm": "t0.7"}
    terms = ("model", "category", "model:category", "prompt", "model:prompt", "residual")
    for measure in ("ln mean ct", "ln ratio_norm"):
        for population, of in (("these", terms), ("sampled", terms), ("three-way", ("model", "category", "rest"))):
            for k, term in enumerate(of):
                share = NAN if (population, term) == ("sampled", "prompt") else (k - 0.5) / 13
                own = {"measure": measure, "population": population, "term": term, "share": share, "lo": share - 0.05}
                own |= {
                    "hi": share + 0.08,
                    "interval": "bootstrap-t, prompts",
                    "component": share,
                    "df": 4,
                    "levels": 5,
                }
                shares.append(
                    own | size | {"estimator": "balanced ANOVA", "reason": "one prompt" if share != share else ""}
                )
        for c, category in enumerate(("factual", "science")):
            for k, name in enumerate(names):
                rank = float((k + c) % len(names) + 1)
                own = {"measure": measure, "model": name, "category": category, "mean": rank, "lo": rank, "hi": rank}
                ranks.append(own | {"rank": rank, "n_prompts": 8, "n_runs": 24})
        orders.append(
            {"measure": measure, "W": 0.8, "ceiling": 0.9, "gap": 0.1, "lo": 0.0, "hi": 0.2, "p": 0.001, "null": 0.5}
            | {"n_models": len(names), "n_categories": 2, "n_prompts": 8, "arm": "t0.7", "reason": ""}
        )
    put(folder, "variance_shares", shares)
    put(folder, "order_ranks", ranks)
    put(folder, "order_consistency", orders)
    pair = {"kind": "temperature", "first": "t0.1", "second": "t1", "spearman": 0.9, "lo": 0.7, "hi": 1.0, "p": 0.01}
    pair |= {"self_first": 0.9, "self_second": NAN, "n_models": 5, "n_prompts": 8, "n_runs": 96, "reason": ""}
    put(folder, "order_stability", [pair])


def gd_models(folder: Path, rng: np.random.Generator) -> None:
    rows = []
    for name, twin, *_, base in models():
        for version, lens, control in VERSIONS:
            value = base if version == "raw" else float(base**0.35 * rng.uniform(0.8, 1.25))
            broken = version == "topk10" and name == "organism:opt"
            value = NAN if broken else value
            rows.append(
                {
                    "model": name,
                    "twin": twin,
                    "version": version,
                    "lens": lens,
                    "control": control,
                    "G": value * 0.2,
                    "D": 0.2,
                    "GD_ratio": value,
                    "lo": value * 0.88,
                    "hi": value * 1.13,
                    "n_prompts": 24,
                    "n_runs": 48,
                }
            )
    put(folder, "gd_models", rows)


COUNTS = {"models": 5, "untrained twins": 5, "prompts": 24, "runs": 240}
CLAIMS = [
    {
        "id": "R1",
        "seed_doc": 4,
        "statement": "Models fall into distinct regimes by ratio_norm.",
        "verdict": "rejected",
        "estimate": 0.7132,
        "interval": [0.64, 0.802],
        "null": 0.953,
        "p": 0.4115,
        "p_without_twins": 0.4116,
        "p_holm": 0.4117,
        "decided_by": "untrained twin",
        "n": 5,
        "counts": COUNTS,
        "published": "bands 1.55-1.70, 2.27-2.92, about 2.97, 4.42-35.55 (never decide)",
        "needed": "",
        "why": "S = 0.713, 5 % point 0.953, p = 0.4115, M = 5; untrained twin: 0.91 of the gap precedes training",
        "controls": [
            {
                "name": "length fixed",
                "outcome": "survived",
                "why": "240 of 240 runs",
                "p": 0.4,
                "gap_interval": [0.8, 1.1],
            },
            {
                "name": "untrained twin",
                "outcome": "explains it away",
                "why": "0.91 of the gap <i>is there</i>",
                "p": None,
            },
        ],
        "reasons": {},
    },
    {
        "id": "G1",
        "statement": "GD_ratio splits the panel into two groups.",
        "verdict": "supported",
        "estimate": 0.9681,
        "interval": [0.941, 0.987],
        "null": 0.9544,
        "p": 0.0187,
        "decided_by": "S test",
        "n": 5,
        "published": "> 1.5 against < .1",
        "needed": "",
        "why": "p <= .05 both times; every control survived",
        "controls": [],
        "reasons": {},
    },
    {
        "id": "G2",
        "statement": "the split survives a common temperature",
        "verdict": "open",
        "estimate": 0.88,
        "interval": None,
        "null": 0.9544,
        "p": 0.21,
        "decided_by": "temperature matching",
        "n": {"M": 5, "prompts": 24},
        "published": None,
        "needed": "8 models for power .8 at 8 SD (this panel: 5)",
        "why": "neither region is met",
        "reasons": {"interval": "fewer than two prompts"},
    },
    {
        "id": "G3",
        "statement": "the split survives vocabulary normalisation",
        "verdict": "open",
        "estimate": NAN,
        "interval": [NAN, NAN],
        "null": None,
        "p": NAN,
        "decided_by": None,
        "n": 4,
        "published": "asked",
        "needed": "shared tokens for every model",
        "why": "one model has no shared tokens <b>at all</b>",
    },
    {
        "id": "G4 & <more>",
        "statement": "the split survives the choice of lens",
        "verdict": "not applicable",
        "estimate": None,
        "interval": None,
        "null": None,
        "p": None,
        "decided_by": "panel",
        "n": 0,
        "published": "ours",
        "needed": "a tuned lens",
        "why": "the panel has no tuned lens",
        "reasons": {"estimate": "3 values where two groups of two need 4"},
    },
]


def trajectory(steps: int = 72, layers: int = 9) -> dict:
    rng = np.random.default_rng(5)
    tokens = [WORDS[k % len(WORDS)] for k in range(steps)]
    for k, hostile in enumerate(HOSTILE):
        if 3 * k + 4 < steps:
            tokens[3 * k + 4] = hostile
    wave = np.abs(np.sin(np.arange(steps) / 5.0))
    instability = 0.8 + np.linspace(0.4, 1.6, layers)[:, None] * (0.6 + wave) * rng.uniform(0.7, 1.3, (layers, steps))
    entropy = np.linspace(6.5, 1.0, layers)[:, None] * (0.3 + 0.7 * wave) * rng.uniform(0.8, 1.2, (layers, steps))
    undefined = instability.astype(object)
    undefined[:, :2] = None
    return {
        "model": "organism:llama",
        "run": 17,
        "prompt_id": "world-003",
        "category": "factual",
        "arm": "t0.7",
        "lens": "final_norm",
        "prompt": "The <b>ferry</b> of Port Marrow \u202e",
        "layers": list(range(layers)),
        "steps": list(range(steps)),
        "tokens": tokens,
        "instability": undefined.tolist(),
        "entropy": entropy.tolist(),
    }


def make_study(folder: Path, seed: int = 0) -> Path:
    """Write the whole synthetic study; same seed, same numbers."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    put(folder, "panel", panel_rows())
    regimes(folder, rng)
    depth(folder, rng)
    gd_models(folder, rng)
    variation(folder)
    put_json(folder, "claims.json", CLAIMS)
    put_json(folder, "results/trajectory.json", trajectory())
    put_json(
        folder,
        "results/separation.json",
        [
            {
                "claim": claim,
                "version": version,
                "S": s,
                "lo": s - 0.05,
                "hi": s + 0.02,
                "p": p,
                "critical": 0.9544,
                "groups": {"organism:gpt2": 1, "organism:opt": 0, "organism:neox": 0, "organism:llama": 1, LONG: 0},
                "reason": "3 values where two groups of two need 4" if s != s else "",
                "S_without_twins": s - 0.01,
                "p_without_twins": p + 0.01,
                "power_6": 0.5,
                "power_8": 0.83,
                "power_10": 0.97,
                "M": 5,
            }
            for claim, version, s, p in (
                ("R1", "l*", 0.7132, 0.4115),
                ("G1", "final_norm", 0.9681, 0.0187),
                ("G2", "tmatch", 0.88, 0.21),
                ("G3", "shared", NAN, NAN),
            )
        ],
    )
    put_json(
        folder,
        "results/temperature.json",
        [
            {
                "model": name,
                "T": round(0.8 + 0.1 * k, 3),
                "entropy_before": 1.2 + 0.1 * k,
                "entropy_after": 1.4,
                "target": 1.4,
            }
            for k, (name, *_) in enumerate(TRAINED)
        ],
    )
    put_json(
        folder,
        "results/notes.json",
        [
            "gd: the nucleus version drops 3 runs that ended early <i>",
            {"experiment": "regimes", "note": "W = 128 is undefined: runs have 72 tokens"},
        ],
    )
    put_json(folder, "results/validity.json", VALIDITY)
    put_json(folder, "results/published.json", published_figures())
    put_json(
        folder,
        "manifest.json",
        {
            "name": "synthetic",
            "seed": 0,
            "versions": {"phaselens": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "python": "3.11.7"},
            "claims_lock": "9f2c" * 16,
            "device": "cpu",
            "dtype": "float32",
            "battery": "world",
            "batch_size": 16,
            "models": [
                {"name": name, "family": family, "twin": twin, "fingerprint": f"{k:02x}" * 32}
                for k, (name, twin, family, *_) in enumerate(models())
            ],
            "refused": [{"model": "organism:rwkv", "reason": "lens at L differs from the model's logits by 0.31"}],
        },
    )
    (folder / "study.toml").write_text(
        'name = "synthetic <study>"\nseed = 0\nmodels = ["organism:gpt2"]\ntwins = true\nbattery = "world"\n'
        'prompts_per_category = 4\nsamples = 2\nmax_new_tokens = 72\nlenses = ["final_norm", "raw"]\n'
        "[[sampling]]\ntemperature = 0.7\n"
    )
    return folder
