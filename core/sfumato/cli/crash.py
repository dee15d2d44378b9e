"""What becomes of an error that nobody foresaw: one line for the user, and all of it in a file."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import suppress

import sfumato
from sfumato.errors import SaveError, SfumatoError
from sfumato.files import write_atomically
from sfumato.paths import Folders


def report(error: Exception, words: Sequence[str]) -> SfumatoError:
    """The error as a user sees it; the traceback goes to `last-error.txt` in the cache folder."""
    path = Folders.of_user().cache / "last-error.txt"
    text = f"sfumato {sfumato.__version__}: {' '.join(words)[:2000]}\n\n{''.join(traceback.format_exception(error))}"
    remedy = "This is a mistake in Sfumato."
    with suppress(SaveError):
        write_atomically(path, text.encode("utf-8", "backslashreplace"), make_parents=True)
        remedy += f" All that is known of it is in {path}: please report it."
    return SfumatoError(f"{type(error).__name__}: {str(error)[:500] or 'without a message'}", "internal error", remedy)
