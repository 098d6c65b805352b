"""The page: a client of the HTTP API of a server that runs, in a browser."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
