"""The journal: every edit and every result of a generation is on the disk moments after it was made, whatever happens next.

Each open document has a folder of its own: the `journal`, to which is only appended; the file that the document was opened from or last
saved to, as a second link (or a copy), so that only what changed since has to be written; and a lock that says whether its owner lives.
A killed process loses what was not yet handed to the system, a power cut what was not yet synced: never more than two seconds.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

from sfumato.document.document import Document
from sfumato.document.events import DocumentEvent, DocumentSaved, EditCommitted
from sfumato.document.folder_lock import FolderLock
from sfumato.document.journal_file import JournalFile, Name, Noted, Place, structure_record, tile_record
from sfumato.document.journal_records import Kind, frame
from sfumato.document.picture import Picture, Structure
from sfumato.document.planes import Planes
from sfumato.document.png import encode_png
from sfumato.errors import SaveError
from sfumato.files import make_folder, write_atomically
from sfumato.geometry import Bounds
from sfumato.request import GenerateRequest


class Journal:
    """The journal of one document, from `start` to `close`. `trouble` says why nothing can be written, if so; it goes on trying.

    With an `executor` (of one thread) packing and writing is done there, else at once. `tick` is called every second or so by the
    document's thread: it writes down what an edit has done so far that is still open, and syncs.
    """

    def __init__(self, folder: Path, document: Document, name: str, executor: Executor | None) -> None:
        self.folder, self.name, self.trouble = folder, name, ""
        self._document, self._executor = document, executor
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._owner = FolderLock(folder)
        self._file = JournalFile(folder)
        self._noted = Noted()
        self._later: Noted | None = None
        self._partial: dict[Place, Planes] = {}
        self._seen: Structure | None = None
        self._stop: Callable[[], None] = lambda: None
        self._again: Callable[[], None] | None = None
        self._closed = False

    @classmethod
    def start(
        cls,
        journals: Path,
        document: Document,
        *,
        name: str = "",
        base: Path | None = None,
        executor: Executor | None = None,
    ) -> Journal:
        """Begin to write down a document in a new folder below `journals`.

        `base` is the file that it is equal to at this moment, if any; without one all its pixels are written down first. `name` is
        what the user knows it by. Raises SaveError if the folder cannot be written to.
        """
        journal = cls(_new_folder(journals), document, name, executor)
        if not journal._owner.take():
            raise SaveError("another process has taken the journal", str(journal.folder), "Open the document again.")
        journal._restart_later(document.snapshot(), None if base else Picture(document.structure), base)
        journal._stop = document.listen(journal._heard)
        if journal.trouble:
            journal.close()
            raise SaveError(journal.trouble, str(journal.folder))
        return journal

    def tick(self) -> None:
        """Write down what has changed and is not yet written, also of an edit that is still open; sync if it is time."""
        edit = self._document.open_edit
        now = edit.touched() if edit else {}
        current = {(surface, key): tile for surface, tiles in now.items() for key, tile in tiles.items()}
        for place in self._partial.keys() - current.keys():
            current[place] = self._document.surface(place[0]).tile(place[1])
        changed = {place: tile for place, tile in current.items() if self._partial.get(place) is not tile}
        self._partial = {place: current[place] for place in current if edit is not None and place[0] in now and place[1] in now[place[0]]}
        self._note(changed)
        self._in_background(self._flush)

    def record_result(self, pixels: Planes, request: GenerateRequest, frame_of: Bounds) -> None:
        """Write down a picture as soon as it is decoded, before it is shown; in any thread. `pixels` [4,H,W]; 8 bits a channel are kept."""
        size = Bounds(0, 0, pixels.shape[2], pixels.shape[1])
        head = {
            "request": request.to_json(),
            "frame": [frame_of.left, frame_of.top, frame_of.right, frame_of.bottom],
            "time": time.time(),
        }

        def work() -> None:
            png = encode_png(lambda band: pixels[:, band.top : band.bottom], size, len(pixels))
            with self._lock:
                self._noted.results.append(frame(Kind.RESULT, head, png))
            self._flush()

        self._try(work)

    def close(self, *, keep: bool = False) -> None:
        """The document was closed: nothing is left to be recovered. With `keep` it stays, to be offered by the next start."""
        self._stop()
        if keep:
            self.tick()
            self._try(self._flush)
        self._closed = True
        with self._writing:
            self._file.close()
            self._owner.release()
            if not keep:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _heard(self, event: DocumentEvent) -> None:
        if isinstance(event, EditCommitted):
            touched = [(surface, key) for surface, keys in event.touched.items() for key in keys] + list(self._partial)
            self._partial = {}
            self._note({(surface, key): self._document.surface(surface).tile(key) for surface, key in touched})
            self._in_background(self._flush)
        elif isinstance(event, DocumentSaved):
            self._partial = {}
            self._restart_later(self._document.snapshot(), event.picture, Path(event.path))

    def _restart_later(self, now: Picture, known: Picture | None, base: Path | None) -> None:
        with self._lock:
            # What is noted from now on is newer than `now`, and has to be written after it.
            later = self._later = Noted()
            self._seen = now.structure
        self._in_background(lambda: self._restart(now, known, base, later))

    def _note(self, tiles: dict[Place, Planes]) -> None:
        """Later moments take the place of earlier ones that are not yet written."""
        structure = self._document.structure
        with self._lock:
            is_new = structure is not self._seen
            for noted in (self._noted,) if self._later is None else (self._noted, self._later):
                noted.tiles.update(tiles)
                noted.structure = structure if is_new else noted.structure
            self._seen = structure

    def _in_background(self, work: Callable[[], None]) -> None:
        if self._executor is None:
            self._try(work)
        else:
            self._executor.submit(self._try, work)

    def _try(self, work: Callable[[], None]) -> None:
        if self._closed:
            return
        try:
            work()
            self.trouble = ""
        except (OSError, SaveError) as error:
            what = error.what if isinstance(error, SaveError) else error.strerror or str(error)
            self.trouble = f"nothing can be written to {self.folder} ({what}): save the document elsewhere"

    def _flush(self) -> None:
        if self._again is not None:  # the disk was full or gone when the file was to be written anew
            self._again()
        with self._writing:
            with self._lock:
                noted, self._noted = self._noted, Noted()
            try:
                self._file.append(noted)
            except BaseException:
                with self._lock:
                    self._noted = noted.followed_by(self._noted)
                raise

    def _restart(self, now: Picture, known: Picture | None, base: Path | None, later: Noted) -> None:
        """A new file: where the document came from (`base`, which holds `known`), and what is different `now`."""
        self._again = lambda: self._restart(now, known, base, later)
        with self._writing:
            link = self._link(base) if base else ""
            facts: dict[str, object] = {
                "name": self.name or (base.name if base else ""),
                "path": str(base or ""),
                "base": link,
                "time": time.time(),
            }
            if link:
                there = (self.folder / link).stat()
                facts |= {"base_size": there.st_size, "base_time": there.st_mtime_ns}
            records = [structure_record(now.structure), *_differences(now, known)]
            self._file.begin(facts, records)
            with self._lock:
                # Some of it may have gone to the old file meanwhile.
                self._noted = later.followed_by(self._noted)
                self._later = None if self._later is later else self._later
            self._again = None
            for old_link in self.folder.glob("base-*.ora"):
                if old_link.name != link:
                    old_link.unlink(missing_ok=True)

    def _link(self, base: Path) -> str:
        """The file as it is now, under a second name that a later save does not touch; a copy where there are no links."""
        name = f"base-{secrets.token_hex(4)}.ora"
        try:
            os.link(os.path.realpath(base), self.folder / name)
        except OSError:
            with base.open("rb") as stream:
                write_atomically(self.folder / name, lambda target: shutil.copyfileobj(stream, target, 1 << 20))
        return name


def _new_folder(journals: Path) -> Path:
    folder = journals / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
    make_folder(folder)
    return folder


def _differences(now: Picture, known: Picture | None) -> Iterator[tuple[Name, bytes]]:
    """A record for each tile that is not the same in both; none if nothing is to be compared with."""
    if known is None:
        return
    for surface in now.with_content().keys() | known.with_content().keys():
        new, old = now.surface(surface), known.surface(surface)
        for key in {*new.keys(), *old.keys()}:
            if (key in new) != (key in old) or new.tile(key) is not old.tile(key):
                yield (surface, key), tile_record(surface, key, new.tile(key))
