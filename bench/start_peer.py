"""The peer of the suite `start`: Python with onnxruntime, tokenizers and the standard library's server.

    python bench/start_peer.py MODEL.onnx TOKENIZER.json THREADS LONGEST

Answers POST /v1/embeddings on a free port, whose address it prints as serve does: {"http": "127.0.0.1:40001"}.
"""

# pyright: basic, reportMissingImports=false
# (the peers come with `make bench` only)

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

model, tokenizer_file, threads, longest = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
options = ort.SessionOptions()
options.intra_op_num_threads = threads
options.inter_op_num_threads = 1
options.log_severity_level = 3
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_file(tokenizer_file)
tokenizer.no_padding()
tokenizer.enable_truncation(longest)


class Handler(BaseHTTPRequestHandler):
    """One text a request."""

    def do_POST(self) -> None:
        (text,) = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        embedding = np.asarray(session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0])[0]
        body = json.dumps({"data": [{"index": 0, "embedding": embedding.tolist()}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


server = HTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"http": f"127.0.0.1:{server.server_port}"}), flush=True)
server.serve_forever()
