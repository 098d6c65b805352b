"""Private copies of adapters' weights, to read again what host memory has no room for.

The folder that an adapter was loaded from while serving belongs to others, who replace and remove it at any time; what
is served must outlive that.
"""

import logging
import shutil
import tempfile
import weakref
from pathlib import Path

from serve.bundle.adapter import WEIGHTS, Adapter
from serve.bundle.checked_json import file_sha256

logger = logging.getLogger(__name__)
PREFIX = "adamix-adapter-"


def keep_private_copy(adapter: Adapter) -> None:
    """Let an adapter read its weights again from a copy in the temporary folder, which is deleted with the adapter.

    Where none can be made the weights stay in memory.
    """
    if adapter.folder is None:
        return
    source, adapter.folder = adapter.folder, None
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        weakref.finalize(adapter, shutil.rmtree, folder, ignore_errors=True)
        shutil.copyfile(source / WEIGHTS, folder / WEIGHTS)
        is_whole = file_sha256(folder / WEIGHTS) == adapter.card.sha256  # others may have replaced it meanwhile
    except OSError as error:
        logger.warning("the weights of adapter %s stay in memory: no copy can be kept: %s", adapter.card.name, error)
        return
    if is_whole:
        adapter.folder = folder
