"""What a study of Hub models needs before anything is downloaded: disk, memory, consent, and what is in the cache."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from phaselens.errors import InputError
from phaselens.models.weights import cache_folder, offline
from phaselens.studies.declaration import Source, Study
from phaselens.studies.stages.models_and_prompts import KEPT_BYTES

WIDTH = {"float32": 4, "float16": 2, "bfloat16": 2}
# Publishers whose models ask for consent on the Hub; the Hub itself has the last word.
GATED = ("meta-llama/", "google/gemma")
GB = 1e9


@dataclass(frozen=True)
class Needs:
    """What a study needs, in bytes (None: some model does not say its number of parameters), and what is in the way.

    `memory` is the most that weights take at once; `download` what is not in the cache yet; `gated` and `absent` (not
    in the cache) name models by Hub id; `models` counts all of the study.
    """

    memory: float | None
    download: float | None
    gated: tuple[str, ...]
    absent: tuple[str, ...]
    hub: tuple[str, ...]
    models: int

    def lines(self) -> list[str]:
        """The same in words; none for a study without Hub models."""
        if not self.hub:
            return []
        out = [f"weights in memory at once: {_size(self.memory)}; to download: {_size(self.download)}"]
        if asking := [name for name in self.gated if name in self.absent]:
            out.append(
                f"gated, ask for access on the page of each (https://huggingface.co/NAME), then `hf auth login`: "
                f"{', '.join(asking)}"
            )
        return out


def _size(number: float | None) -> str:
    return "not known (a model does not say its parameters)" if number is None else f"about {number / GB:.1f} GB"


def needs_of(study: Study) -> Needs:
    """What a study needs; asks the local cache only."""
    hub = [m for m in study.models if m.from_hub]
    absent = [m for m in hub if not cached(m)]
    width = WIDTH[study.dtype]
    sizes = [None if m.parameters is None else m.parameters * width for m in hub]
    return Needs(
        memory=_memory(sizes, study.twins),
        download=_sum([None if m.parameters is None else m.parameters * 4 for m in absent]),
        gated=tuple(m.source for m in hub if m.source.startswith(GATED)),
        absent=tuple(m.source for m in absent),
        hub=tuple(m.source for m in hub),
        models=len(study.models),
    )


def _memory(sizes: list[float | None], twins: bool) -> float | None:
    """The largest model (with its untrained twin beside it) above what is kept between stages."""
    total = _sum(sizes)
    if total is None:
        return None
    largest, each = max(sizes, default=0.0), 2 if twins else 1
    return min(total * each, largest * each + KEPT_BYTES)


def _sum(sizes: list[float | None]) -> float | None:
    return None if any(size is None for size in sizes) else float(sum(sizes))


def cached(model: Source) -> bool:
    """Whether the configuration of a Hub model is in the local cache."""
    found = try_to_load_from_cache(model.source, "config.json", revision=model.revision, cache_dir=cache_folder())
    return isinstance(found, str)


def located(study: Study, folder: str | Path) -> Study:
    """The same study with its Hub models read from a folder that holds ORG/NAME, ORG--NAME or NAME.

    Their names in the tables stay the Hub ids. Raises InputError where one is not there; says which.
    """
    found, missing = [], []
    for model in study.models:
        place = next((p for p in _places(Path(folder), model.source) if (p / "config.json").is_file()), None)
        if model.from_hub and place is None:
            missing.append(model.source)
        moved = {"source": str(place.resolve()), "name": model.label} if model.from_hub and place else {}
        found.append(model.model_dump() | moved)
    if missing:
        raise InputError(
            f"{folder} has no folder with a config.json for {', '.join(missing)}: wanted {missing[0]} or "
            f"{missing[0].replace('/', '--')} in it. Download there with `hf download NAME --local-dir DIR/NAME`."
        )
    return study.changed(models=found)


def _places(folder: Path, source: str) -> tuple[Path, ...]:
    """Where a Hub model may lie in a folder."""
    return folder / source, folder / source.replace("/", "--"), folder / source.rpartition("/")[2]


def require_reachable(needs: Needs) -> None:
    """Raise InputError where there is no network and no model of the study is here; says where it looked.

    Where some are here the others are refused one by one, and the study goes on.
    """
    if len(needs.absent) == needs.models and offline():
        raise InputError(
            f"no network, and none of {', '.join(needs.absent)} is in the Hub cache ({cache_folder()}). Where there is "
            "a network, `hf download NAME` each and copy that cache here; or put them into a folder as ORG/NAME and "
            "give it with --models-from DIR."
        )
