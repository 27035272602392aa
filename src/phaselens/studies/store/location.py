"""Where a study stands: a folder, or a URI of a file system that pyarrow or fsspec knows, with a mirror.

All code works on the folder. A URI is fetched from before something is read and put to once something is whole, so that
a machine which shares no disk with the others needs the URI alone.
"""

import atexit
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pyarrow import fs

from phaselens.errors import InputError, OutputError
from phaselens.trace.store import HOST, TEMPORARY, atomic_write

# Stores in which an object is there whole or not at all; elsewhere a file is written under another name and moved.
WHOLE_OBJECTS = ("s3", "gcs", "abfs")
DRIVER = ("study.toml", "manifest.json", "panel.json", "units.json", "claims.json", "log.jsonl", "report.html")


class Place:
    """A study at `root`. `folder` is where it is worked on: the folder itself, or the mirror of a URI."""

    def __init__(self, root: str | Path, mirror: str | Path | None = None) -> None:
        self.root = str(root)
        self._fs, self._base = _opened(self.root) if "://" in self.root else (None, "")
        if self._fs is None:
            self.folder = Path(root)
            return
        if mirror is None:
            mirror = tempfile.mkdtemp(prefix="phaselens-")
            atexit.register(shutil.rmtree, mirror, ignore_errors=True)
        self.folder = Path(mirror)

    @property
    def remote(self) -> bool:
        """Whether it is a URI."""
        return self._fs is not None

    def names(self) -> set[str]:
        """Every file of the place, by its name inside it; none that is being written."""
        if self._fs is None:
            found = (p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
        else:
            wanted = fs.FileSelector(self._base, allow_not_found=True, recursive=True)
            infos = self._fs.get_file_info(wanted)
            found = (i.path[len(self._base) :].lstrip("/") for i in infos if i.type == fs.FileType.File)
        return {name for name in found if not Path(name).name.startswith(".")}

    def fetch(self, names: Iterable[str]) -> None:
        """Copy these files to the folder, where they stand in the place and not in the folder yet."""
        wanted = [n for n in names if self._fs is not None and not (self.folder / n).is_file()]
        for name in wanted:
            try:
                with self._fs.open_input_stream(f"{self._base}/{name}") as file:
                    atomic_write(self.folder / name, file.read())
            except FileNotFoundError:
                continue
            except OSError as error:
                raise OutputError(f"cannot read {self.root}/{name}: {error}.") from error

    def put(self, names: Iterable[str]) -> None:
        """Copy these files of the folder to the place, each whole or not at all; those that are not there are not."""
        for name in names:
            if self._fs is None or not (self.folder / name).is_file():
                continue
            target = f"{self._base}/{name}"
            whole = self._fs.type_name in WHOLE_OBJECTS
            head, _, tail = target.rpartition("/")
            path = target if whole else f"{head}/.{tail}.{HOST}.0.{secrets.token_hex(4)}{TEMPORARY}"
            try:
                self._fs.create_dir(head, recursive=True)
                with self._fs.open_output_stream(path) as file:
                    file.write((self.folder / name).read_bytes())
                if not whole:
                    self._fs.move(path, target)
            except OSError as error:
                raise OutputError(f"cannot write {self.root}/{name}: {error}. Finished files are kept.") from error

    def put_results(self) -> None:
        """What the driver alone writes: declaration, manifest, record, ledger, results, page, diary."""
        self.put([*DRIVER, *(p.relative_to(self.folder).as_posix() for p in sorted(self.folder.glob("results/*")))])


def _opened(root: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI and the path in it; what pyarrow does not know goes to fsspec."""
    try:
        found, path = fs.FileSystem.from_uri(root)
        return found, path.rstrip("/")
    except (ValueError, OSError) as first:
        try:
            import fsspec

            handler, path = fsspec.core.url_to_fs(root)
            return fs.PyFileSystem(fs.FSSpecHandler(handler)), str(path).rstrip("/")
        except (ImportError, ValueError, OSError) as error:
            raise InputError(f"cannot open {root}: {first} {error}.") from error
