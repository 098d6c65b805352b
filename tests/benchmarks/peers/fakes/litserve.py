"""LitServe with batches of one."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class LitAPI:
    def __init__(self, max_batch_size: int = 1, batch_timeout: float = 0.0) -> None:
        self.max_batch_size, self.batch_timeout = max_batch_size, batch_timeout


class LitServer:
    def __init__(self, api: Any, accelerator: str, workers_per_device: int) -> None:
        self.api, self.accelerator = api, accelerator

    def run(self, port: int, host: str, log_level: str, generate_client_file: bool) -> None:
        api = self.api
        api.setup(self.accelerator)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                (output,) = api.unbatch(api.predict(api.batch([api.decode_request(request)])))
                self.send_response(200 if self.path == "/predict" else 404)
                self.end_headers()
                self.wfile.write(json.dumps(api.encode_response(output)).encode())

        HTTPServer((host, port), Handler).serve_forever()
