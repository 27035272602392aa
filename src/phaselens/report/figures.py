"""The figures of a study as files of their own: SVG with its style inside, for papers and slides.

Only the rules of the style sheet that a figure uses go with it, colours resolved to the light scheme.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from phaselens.report import raster
from phaselens.report.study_files import read_folder
from phaselens.report.template_files import text
from phaselens.trace.store import atomic_write

XMLNS = 'xmlns="http://www.w3.org/2000/svg"'
WANTED = re.compile(r'class="([^"]*)"')
RULE = re.compile(r"([^{}@]+)\{([^{}]*)\}")
SETS = re.compile(r"--([\w-]+):\s*([^;]+)")
FALLBACK = re.compile(r"var\(--[\w-]+, ([^)]*)\)")
BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
MARGIN = 10  # on the page marks may stand over the edge; a file needs room for them
FONTS = f"font-family: {raster.FAMILIES};"


def write_figures(study_dir: str | Path, out: str | Path | None = None, png: bool = False) -> tuple[Path, ...]:
    """Write every figure of a study as an SVG file into `out` (default: its folder `figures`); return the files.

    With `png` each also as PNG. Raises StudyFileError if the folder is not that of a study, OutputError where the place
    cannot be written, MissingExtra where PNG needs what is not installed.
    """
    from phaselens.report.render import content, figures

    where = Path(study_dir)
    folder = Path(out) if out is not None else where / "figures"
    return write_files({n: f.wide for n, f in figures(content(read_folder(where))).items()}, folder, png)


def write_files(figures: Mapping[str, Markup], folder: Path, png: bool = False) -> tuple[Path, ...]:
    """Write figures as whole SVG documents, with `png` also as PNG: all SVG first, in their order."""
    whole = {name: standalone(svg) for name, svg in figures.items()}
    drawn = {name: raster.png(svg) for name, svg in whole.items()} if png else {}
    files = [atomic_write(folder / f"{name}.svg", svg) for name, svg in whole.items()]
    return (*files, *(atomic_write(folder / f"{name}.png", picture) for name, picture in drawn.items()))


def standalone(svg: str) -> str:
    """One figure as a whole SVG document: namespace, size, a margin, and the style of the classes that it uses."""
    whole = str(svg)
    size, paper = "", "0 0 100% 100%".split()
    if box := BOX.search(whole):
        paper = [f"{-MARGIN}", f"{-MARGIN}", *(f"{float(side) + 2 * MARGIN:g}" for side in box.groups())]
        size = f' width="{paper[2]}" height="{paper[3]}"'
        whole = whole.replace(box[0], f'viewBox="{" ".join(paper)}"', 1)
    style = _style({name for names in WANTED.findall(whole) for name in names.split()})
    head = f'<svg {XMLNS}{size} font-size="12"'
    ground = '<rect x="{}" y="{}" width="{}" height="{}" fill="#ffffff"/>'.format(*paper)
    whole = whole.replace("<svg", head, 1)
    return re.sub(r"(<svg[^>]*>)", lambda m: f"{m[1]}<style>{style}</style>{ground}", whole, count=1) + "\n"


def _style(classes: set[str]) -> str:
    """The rules of the style sheet for these classes, variables replaced by their values."""
    sheet = re.sub(r"/\*.*?\*/", "", text("report.css"), flags=re.DOTALL)
    light = dict(re.findall(r"--([\w-]+):\s*([^;]+);", sheet[: sheet.index("@media")]))
    rules, own = [f"svg {{ {FONTS} }}"], dict[str, list[tuple[str, str]]]()
    for selectors, body in RULE.findall(_without_media(sheet)):
        fitting = [s.strip() for s in selectors.split(",") if _fits(s.strip(), classes)]
        body = _resolved(body.strip(), light)
        for name, value in SETS.findall(body):
            own.setdefault(name, []).extend((s, value.strip()) for s in fitting)
        if fitting and not SETS.search(body):
            rules += _spelled(fitting, body, own)
    return " ".join(rules)


def _otherwise(found: re.Match[str]) -> str:
    """What stands for a variable that nothing sets."""
    return found[1]


def _spelled(selectors: list[str], body: str, own: Mapping[str, list[tuple[str, str]]]) -> list[str]:
    """A rule, once for every class that sets a variable which it uses: few drawing programs know variables."""
    used = next((name for name in own if re.search(rf"var\(--{name}[,)]", body)), None)
    alone = f"{', '.join(selectors)} {{ {FALLBACK.sub(_otherwise, body)} }}"
    if used is None:
        return [alone]
    out = [alone] if FALLBACK.search(body) else []
    for setter, value in own[used]:
        last = setter.rpartition(" ")[2]
        both = [v for s in selectors for v in (f"{setter} {s.removeprefix('svg ')}", f"{s}{last}")]
        said = re.sub(rf"var\(--{used}(?:, [^)]*)?\)", value, body)
        out += _spelled(both, said, {k: v for k, v in own.items() if k != used})
    return out


def _without_media(sheet: str) -> str:
    """The sheet without its @media blocks: a figure on paper knows neither screens nor dark schemes."""
    out, depth, skip = [], 0, 0
    for piece in re.split(r"([{}])", sheet):
        if piece == "{":
            depth += 1
        elif piece == "}":
            depth -= 1
        if not skip and piece.strip().rpartition("\n")[2].startswith("@"):
            skip = depth + 1
            out.append(piece.rpartition("@")[0])
        elif not skip:
            out.append(piece)
        elif piece == "}" and depth < skip:
            skip = 0
    return "".join(out)


def _fits(selector: str, classes: set[str]) -> bool:
    """Whether a selector speaks of a class of the figure, of shapes in it, or of nothing that is not there."""
    named = re.findall(r"\.([\w-]+)", selector)
    return bool(named) and set(named) <= classes and ":" not in selector


def _resolved(body: str, values: Mapping[str, str]) -> str:
    for _ in range(3):
        body = re.sub(r"var\(--([\w-]+)\)", lambda m: values.get(m[1], m[0]).strip(), body)
    return body
