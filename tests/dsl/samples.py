"""Specs that the tests of the language share."""

from __future__ import annotations

EMBEDDINGS = """\
# embeddings.infer
infer 1                                     # language version, required, first statement

model minilm {
  source    huggingface("models/all-MiniLM-L6-v2")
  task      embed(pooling = mean, normalize = true)
  input     text: string, up to 256 tokens, truncate
}

data {
  calibrate jsonl("data/calibrate.jsonl", field = "text"), rows 256
  evaluate  jsonl("data/evaluate.jsonl",  field = "text"), rows 512
}

traffic {
  rate      40 req/s, burst 4x for 10 s every 1 min
  items     1..16                           # rows in a request
}

targets {
  latency     p99 <= 20 ms
  throughput  >= 120 req/s
  accuracy    cosine >= 0.995 vs float32
  cost        <= 0.60 USD per 1M requests
  memory      <= 512 MiB
  cold_start  <= 100 ms
  confidence  95 %
}

hardware {                                  # alternatives: search picks one
  use "aws:c7a.large"                       # from the catalogue
  use cpu { isa x86-64-v4, cores 2, memory 4 GiB, price 0.08 USD/h }
  use cuda "h200" { count 1..2, price 3.50 USD/h }
}

search {
  precision   float32, bfloat16, int8, int4(group = 32)
  fusion      auto
  batch       1..64
  instances   1..2
  objective   minimize cost, then latency p99
  budget      5 min
}

serve {
  protocols   kserve, openai
  queue       256 requests, deadline 200 ms
  cache       exact, 64 MiB, ttl 10 min
  degrade     { to variant int8 when queue > 50 % for 1 s, back below 10 % for 30 s }
  tenants     header "x-tenant", limit 50 req/s each
}
"""
"""The first example of the language's design."""

FRAUD = """\
infer 1
model fraud {
  source  torch("model.py:make")        # make() returns an nn.Module in eval mode
  input   features: float32[batch, 64]  # name and order are those of forward's parameters
  output  score: float32[batch, 1]      # optional; checked when written; otherwise output0, output1, ...
  dim     batch in 1..64                # a symbol without a `dim` line has the task's default, shown by --explain
}
"""
"""The second one."""

EVERYTHING = """\
infer 1

let slow = 200 ms
let rows = 64

model words {
  source   huggingface(hub = "org/name", revision = "0123456789abcdef0123456789abcdef01234567")
  task     generate
  input    text: string, up to 512 tokens, reject
  version  "2026.47"
  alias    "chat"
  data {
    calibrate jsonl("c.jsonl"), rows 128, seed 3
    evaluate csv("e.csv", columns = "a", "b", "c", label = "y"), seed 1
  }
  traffic { rate 5 req/s, steady }
  targets {
    ttft      p95 <= slow at 3 req/s, poisson
    itl       p99.9 <= 5e-2 s
    latency   max <= 3 s
    latency   p50 <= 0.5 s
    throughput  >= 1_000 tok/s
    accuracy  perplexity rise <= 1 % vs float32
    accuracy  perplexity <= 12.5 vs labels
    accuracy  metric("m.py:fn") >= 0.9
    memory    device <= 20 GB
  }
  search {
    precision  bfloat16, int8, int4(group = 32)
    keep       "encoder.layer.11.*" float32
    prune      up to 30 %
    wait       0..5 ms
    threads    2
    objective  minimize cost, then latency p99, then maximize throughput
    seed       7
  }
}

model pictures {
  source  export("resnet.pt2")
  task    classify(labels = "labels.txt", top = 5)
  input   image: image(jpeg, png), up to 4 MiB
  data { evaluate folder("pictures"), rows rows }
  traffic { offline; items 8 }
  targets { throughput >= 50 img/s; accuracy top1 >= 0.76 vs labels }
}

model table {
  source  onnx("t.onnx"), nan allowed
  input   "x:0" as x: float32[batch, width], nan allowed, range -5..5
  input   kind: int64[batch]
  input   flag: bool
  output  "y:0" as y: float32[batch], nan allowed
  dim     batch in 1..1
  dim     width in 4..rows
  data { evaluate npz("t.npz") }
}

model pairs {
  source  jax("f.py:fn")
  task    rerank
  input   query: string
  input   document: string, up to 128 tokens, truncate
}

targets {
  memory       <= 2 GiB
  memory       device <= 40 GB
  cold_start   <= 1 s
  cold_start   cold <= 20 s
  bundle_size  <= 3 GB
  cost         <= 2 USD per 1M tokens
  confidence   99 %
}

hardware {
  use rocm { arch gfx942, count 1..8, price 2 USD/h }
  use tpu "v6e" { topology 1x1, price 1.5 USD/h }
  use cuda "nvidia:h100" { price 3 USD/h }
  accept cpu "some machine"
}

serve {
  protocols openai
  queue 12 requests
  cache exact, 1 GB
}

profile ci {
  let slow = 400 ms
  serve { drop cache }
}
"""
"""Every statement that the two examples do not show."""
