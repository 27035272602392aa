"""The report: one self-contained `report.html` made from the files of a study folder, and from nothing else.

Read: `claims.json`, `manifest.json`, `study.toml`; in `results/` the tables `panel`, `regimes_models`, `regimes_runs`,
`regimes_nulls`, `depth`, `gd_models`, `gd_depth` (Parquet) and the documents `separation`, `temperature`, `trajectory`,
`notes` (JSON). None of them is required: what is absent is named on the page. The columns that a table must have are
in `folder.TABLES`. Nothing is computed here beyond where a mark stands.

`results/trajectory.json` is one object, or a list of them, drawn in this order (null or NaN where undefined):

    {"model": str, "run": int, "prompt_id": str,       named in the caption,
     "category": str, "arm": str, "lens": str,         each of them optional
     "prompt": str,                                    optional: the text of the prompt
     "layers": [int or str] * K,                       labels, layer 0 first
     "steps": [int] * n,                               step s of each column
     "tokens": [str] * n,                              the token emitted at each step, decoded alone
     "instability": [[float | null] * n] * K,          ct along tokens, rad, first row = first layer
     "entropy": [[float | null] * n] * K}              nats, under the lens named

`results/notes.json` is a list of texts or of {"experiment": str, "note": str}. Of `manifest.json` the report uses
"models" (records with "name" and "fingerprint"), "refused" (records with "model" and "reason"), "claims_lock",
"battery", "seed" and "name"; everything else in it is listed under Methods, apart from "units" and "study".
"""

from phaselens.report.render import page, render
