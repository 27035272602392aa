"""What the columns of `results/` can hold: makes `src/phaselens/experiments/columns.json` from folders of studies.

    python tests/studies/columns.py DIR...      (DIR: `phaselens run organisms-full --quick --out DIR`, and others)

Names are `open` where the study gives them (models, prompts, tasks) or where another study may add to them, else the
list of those that occur; `place` are numbers that say where a row was measured; the rest is said or measured.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FILE = Path(__file__).parents[2] / "src" / "phaselens" / "experiments" / "columns.json"
OPEN = (
    "arm category family feature first levels load method model nearest_other observable origin destination panel "
    "prompt_id "
    "score second source target task template trained_on read_on training twin_of unit claim null description"
).split()
SAID = "reason label label_panel collapse_cause best best_baseline oriented flag word".split()
PLACES = "layer depth step strength threshold length place sample run to size quantile fewest_events".split()


def columns_of(folder: Path) -> dict[str, dict[str, object]]:
    """Kind of every column of every table: `number`, `truth`, `place`, `said`, `open`, or the list of its values."""
    out: dict[str, dict[str, object]] = {}
    for path in sorted((folder / "results").glob("*.parquet")):
        table = pq.read_table(path)
        out[path.stem] = {field.name: _kind(table, field) for field in table.schema}
    return out


def _kind(table: pa.Table, field: pa.Field) -> object:
    if pa.types.is_boolean(field.type):
        return "truth"
    if not pa.types.is_string(field.type):
        return "place" if field.name in PLACES else "number"
    if field.name in SAID:
        return "said"
    return "open" if field.name in OPEN or not table.num_rows else sorted(set(table.column(field.name).to_pylist()))


def merged(first: dict, second: dict) -> dict:
    """Both: lists of values are joined, an empty table's `open` gives way to a list."""
    out = {name: dict(columns) for name, columns in first.items()}
    for name, columns in second.items():
        for column, kind in columns.items():
            known = out.setdefault(name, {}).get(column)
            both = isinstance(kind, list) and isinstance(known, list)
            out[name][column] = sorted({*kind, *known}) if both else kind if known in (None, "open") else known
    return out


if __name__ == "__main__":
    found: dict = {}
    for folder in sys.argv[1:]:
        found = merged(found, columns_of(Path(folder)))
    rows = (f"  {json.dumps(name)}: {json.dumps(columns)}" for name, columns in sorted(found.items()))
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
