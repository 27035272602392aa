"""What lies in `templates/`: pages to fill, the style sheet, and texts."""

from importlib import resources

import jinja2
from markupsafe import Markup

from phaselens.report.written_values import visible
from phaselens.version import __version__


def text(name: str) -> str:
    """Read a file of the folder."""
    return resources.files("phaselens.report").joinpath("templates", name).read_text(encoding="utf-8")


def _visible(value: object) -> object:
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def filled(template: str, /, clean: bool = False, **content: object) -> str:
    """Fill a page, text escaped and (if `clean`) made visible; every page knows its `style` and our `version`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("phaselens.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=_visible if clean else None,
    )
    environment.filters["breakable"] = lambda text: Markup("_<wbr>").join(text.split("_"))
    style = Markup(text("report.css"))
    return environment.get_template(template).render(version=__version__, style=style, **content)
