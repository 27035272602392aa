"""`phaselens verify`: is a folder what was written?"""

from pathlib import Path
from typing import Annotated

import typer

from phaselens.cli.run import AsJson
from phaselens.cli.show import print_json, say


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study, or of traces.")],
    as_json: AsJson = False,
) -> None:
    """See that every file of a folder is what was written, byte for byte, and that none is gone.

    Exit code 2 where one is not, with its name. Hashes tell damage and edits, not who made them (docs/limits.md).
    """
    from phaselens.studies.store.check import problems

    count, found = problems(folder)
    if as_json:
        print_json({"folder": str(folder), "files": count, "sound": not found, "problems": [vars(p) for p in found]})
    else:
        say(*(f"{p.file}: {p.what}" for p in found))
        say(f"{count} files, {len(found)} not what was written" if found else f"{count} files, all what was written")
    if found:
        raise typer.Exit(2)
