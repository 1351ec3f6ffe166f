"""Where data lies, and how a file is written so that it is whole at any moment."""

import contextlib
import hashlib
import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "data"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file beside `path` and renames it over it, so that at any moment `path` is whole: old or new.

    Raises OSError in one sentence if it cannot be written; then `path` is what it was.
    """
    path = Path(path)
    # A name of this process's own: another one may be writing the same file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(error.errno, f"{path} could not be saved ({reason}); what was there is untouched") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
