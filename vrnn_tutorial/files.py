"""Where things lie, and how a file is written so that it is whole at any moment."""

import contextlib
import glob
import hashlib
import os
import secrets
import shutil
from pathlib import Path

import platformdirs

#: The model that generates by default: the article's sizes, trained longer; the run data/checkpoints/best.
BEST = Path(__file__).resolve().with_name("best.safetensors")
#: A checkout's trained models and what was measured of them. A package that was installed has no such folder.
FOLDER = Path(__file__).resolve().parents[1] / "data"
#: No write takes as long, so that a temporary file which is older by so much was left by one that was killed.
ABANDONED = 3600.0  # seconds


def data_folder() -> Path:
    """Where data sets lie: where VRNN_TUTORIAL_DATA says, else in a checkout's `data/`, else in the user's cache."""
    if named := os.environ.get("VRNN_TUTORIAL_DATA"):
        return Path(named).expanduser()
    if (FOLDER / "checkpoints").is_dir():
        return FOLDER
    return platformdirs.user_cache_path("vrnn-tutorial", appauthor=False)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file beside `path` and renames it over it, so that at any moment `path` is whole: old or new.

    Any number of threads and processes may write the same file; the last one's content stays. A file that was there
    keeps its mode. Raises OSError in one sentence if it cannot be written; then `path` is what it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")  # each writer's own
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        _remove_abandoned(path, temporary.stat().st_mtime)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(error.errno, f"{path} could not be saved ({reason}); what was there is untouched") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _remove_abandoned(path: Path, now: float) -> None:
    """What writers of `path` left that were killed; `now` is by the clock of its file system."""
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):  # another writer may have been faster
            if other.stat().st_mtime < now - ABANDONED:
                other.unlink()
