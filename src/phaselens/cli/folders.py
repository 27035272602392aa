"""`phaselens verify`, `pull` and `work`: a study's place, whole, copied, or worked on in parts."""

from pathlib import Path
from typing import Annotated

import typer

from phaselens.cli.run import AsJson
from phaselens.cli.terminal import print_json, say


def verify(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder of a study, or of traces; or a URI.")],
    as_json: AsJson = False,
) -> None:
    """See that every file of a folder is what was written, byte for byte, and that none is gone.

    Exit code 2 where one is not, with its name. Hashes tell damage and edits, not who made them (docs/limits.md).
    """
    from phaselens.studies.store.verify import problems

    count, found = problems(fetched(folder))
    if as_json:
        print_json({"folder": str(folder), "files": count, "sound": not found, "problems": [vars(p) for p in found]})
    else:
        say(*(f"{p.file}: {p.what}" for p in found))
        say(f"{count} files, {len(found)} not what was written" if found else f"{count} files, all what was written")
    if found:
        raise typer.Exit(2)


def fetched(root: str) -> Path:
    """The folder of a study; of a URI a copy of all of it that lasts as long as this process."""
    from phaselens.studies.store.location import Place

    place = Place(root)
    place.fetch(sorted(place.names()) if place.remote else ())
    return place.folder


def pull(
    uri: Annotated[str, typer.Argument(metavar="URI", help="Where the study stands, e.g. s3://bucket/study.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to copy it to.")],
    as_json: AsJson = False,
) -> None:
    """Copy a study from a URI to a folder, to analyse it there; what is there already is not copied again."""
    from phaselens.errors import InputError
    from phaselens.studies.store.location import Place

    place = Place(uri, folder)
    names = sorted(place.names()) if place.remote else []
    if not names:
        raise InputError(f"{uri} holds no files, or is no URI like s3://bucket/study.")
    place.fetch(names)
    if as_json:
        print_json({"folder": str(folder), "files": len(names)})
    else:
        say(f"{len(names)} files in {folder}; `phaselens verify {folder}` sees that all are what was written")


def work(
    root: Annotated[str, typer.Argument(metavar="DIR", help="A study that was begun (run --begin); or a URI.")],
    part: Annotated[str, typer.Option(metavar="I/N", help="Which of how many parts, e.g. 3/16.")] = "1/1",
    wait: Annotated[float, typer.Option(help="Seconds to wait for other parts' calibrations.")] = 3600.0,
) -> None:
    """Do one part of what is missing of a study, beside others that do theirs: an array job, an indexed Kubernetes job.

    The folder is the truth: no driver is needed. When all parts are done `phaselens run` ends the study.
    """
    from phaselens.cli.terminal import quiet_models
    from phaselens.errors import InputError
    from phaselens.studies.worker import work_part

    index, _, many = part.partition("/")
    if not (index.isdecimal() and many.isdecimal() and 0 <= int(index) <= int(many) and int(many) > 0):
        raise InputError(f"--part is {part!r}; wanted I/N with I from 1 to N (or from 0), e.g. 3/16.")
    quiet_models()
    count = work_part(root, int(index) % int(many), int(many), wait=wait)
    say(f"part {part}: {count} units done")
