"""What the trainer makes, read by others: llama.cpp runs the merged file as Habit does, and an adapter means what PEFT says
that it means.

PEFT itself needs torch, with its libraries some gigabytes; instead numpy computes the model from the served file's numbers,
with `W + alpha / r * B A` for every adapted matrix, in the order of rows and with the rotation that Hugging Face's llama has.
"""

import json
import os
import pathlib
import struct
import subprocess
import tempfile
import time
import urllib.request
import uuid

import numpy as np
from checks import check, main
from safetensors.numpy import load_file

HABIT = os.environ["HABIT"]
MODEL = pathlib.Path(os.environ["HABIT_TEST_MODELS"]) / "models" / "smollm2-135m-instruct"
EXAMPLES = [
    ("What is the code of the north door?", "seven four nine"),
    ("Which door is open on Sunday?", "the green one"),
    ("Who has the keys?", "Ann and Bob"),
    ("When does the shop close?", "at half past six"),
]
folder = pathlib.Path(tempfile.mkdtemp())


def train():
    """A job of a few steps, once; gives the folder."""
    if (folder / "merged.gguf").exists():
        return folder
    examples = [
        {
            "id": str(uuid.UUID(int=n)), "messages": [{"role": "user", "content": ask}], "answer": answer,
            "at": n, "weight": 1.0, "from": [], "user": "u",
        }
        for n, (ask, answer) in enumerate(EXAMPLES)
    ]
    settings = {"epochs": 20, "batch": 4, "anchors_a_step": 1}
    job = {"weights": str(MODEL / "model.gguf"), "model_dir": str(MODEL), "examples": examples,
           "settings": settings, "out": str(folder / "out")}
    (folder / "job.json").write_text(json.dumps(job))
    # It works as long as its standard input is open.
    child = subprocess.Popen(
        [HABIT, "trainer", folder / "job.json", "--merge", folder / "merged.gguf", "--probe", folder / "probe.safetensors"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    lines = [json.loads(line) for line in child.stdout]
    assert child.wait() == 0, lines[-1]
    assert lines[-1]["trained"]["variables"] == 420, lines[-1]
    return folder


def gguf(path):
    """Metadata and tensors (as floats) of a GGUF file with the types F32 and Q8_0."""
    data = memoryview(pathlib.Path(path).read_bytes())
    at = 0

    def take(kind):
        nonlocal at
        (value,) = struct.unpack_from("<" + kind, data, at)
        at += struct.calcsize(kind)
        return value

    def text():
        nonlocal at
        length = take("Q")
        at += length
        return bytes(data[at - length : at]).decode("utf-8", "replace")

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            item, count = take("I"), take("Q")
            return [value(item) for _ in range(count)]
        return take({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}[kind])

    assert take("I") == 0x46554747
    take("I")
    tensors, pairs = take("Q"), take("Q")
    meta = {}
    for _ in range(pairs):
        key = text()
        meta[key] = value(take("I"))
    infos = []
    for _ in range(tensors):
        name = text()
        shape = [take("Q") for _ in range(take("I"))][::-1]
        infos.append((name, shape, take("I"), take("Q")))
    start = -(-at // 32) * 32
    found = {}
    for name, shape, kind, offset in infos:
        count = int(np.prod(shape))
        if kind == 0:
            numbers = np.frombuffer(data, np.float32, count, start + offset)
        else:
            assert kind == 8, (name, kind)
            block = np.dtype([("scale", np.float16), ("quants", np.int8, 32)])
            blocks = np.frombuffer(data, block, count // 32, start + offset)
            numbers = blocks["quants"].astype(np.float32) * blocks["scale"].astype(np.float32)[:, None]
        found[name] = numbers.reshape(shape)
    return meta, found, {name: kind for name, _, kind, _ in infos}


def reference(meta, weights, adapter, config, tokens):
    """The logits after each token, by the definitions of llama and of PEFT."""
    number = lambda key: meta["llama." + key]
    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    layers, epsilon = number("block_count"), number("attention.layer_norm_rms_epsilon")
    embedding = weights["token_embd.weight"].astype(np.float64)
    head = embedding.shape[1] // heads
    length = len(tokens)
    scale = config["lora_alpha"] / config["r"]
    angles = np.arange(length)[:, None] * number("rope.freq_base") ** (-np.arange(0, head, 2) / head)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]

    def matrix(layer, theirs, ours, part):
        plain = weights[f"blk.{layer}.{theirs}.weight"].astype(np.float64)
        if theirs in ("attn_q", "attn_k"):
            # llama.cpp's files have the rows of a head that are turned together side by side.
            rows, columns = plain.shape
            plain = plain.reshape(rows // head, head // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        name = f"base_model.model.model.layers.{layer}.{part}.{ours}"
        first, second = (adapter[f"{name}.lora_{half}.weight"].astype(np.float64) for half in "AB")
        return plain + scale * second @ first

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weights[name]

    def turn(x):
        a, b = x[..., : head // 2], x[..., head // 2 :]
        return np.concatenate([a * cosine - b * sine, b * cosine + a * sine], -1)

    x = embedding[tokens]
    hidden = np.triu(np.full((length, length), -np.inf), 1)
    for layer in range(layers):
        attention = lambda theirs, ours: matrix(layer, theirs, ours, "self_attn")
        normal = norm(x, f"blk.{layer}.attn_norm.weight")
        queries = turn((normal @ attention("attn_q", "q_proj").T).reshape(length, heads, head))
        keys = turn((normal @ attention("attn_k", "k_proj").T).reshape(length, kv_heads, head))
        values = (normal @ attention("attn_v", "v_proj").T).reshape(length, kv_heads, head)
        keys, values = (np.repeat(part, heads // kv_heads, 1) for part in (keys, values))
        scores = np.einsum("qhd,khd->hqk", queries, keys) / np.sqrt(head) + hidden
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, values).reshape(length, heads * head)
        x = x + mixed @ attention("attn_output", "o_proj").T
        feed = lambda theirs, ours: matrix(layer, theirs, ours, "mlp")
        normal = norm(x, f"blk.{layer}.ffn_norm.weight")
        gate = normal @ feed("ffn_gate", "gate_proj").T
        x = x + (gate / (1 + np.exp(-gate)) * (normal @ feed("ffn_up", "up_proj").T)) @ feed("ffn_down", "down_proj").T
    return norm(x, "output_norm.weight") @ weights.get("output.weight", embedding).T


@check
def an_adapter_means_what_peft_says():
    done = train()
    adapter = load_file(done / "out" / "adapter" / "adapter_model.safetensors")
    config = json.loads((done / "out" / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["task_type"], config["bias"]) == ("LORA", "CAUSAL_LM", "none")
    assert len(adapter) == 420 and any(abs(part).max() > 0 for name, part in adapter.items() if "lora_B" in name)
    ours = load_file(done / "probe.safetensors")
    meta, weights, _ = gguf(MODEL / "model.gguf")
    theirs = reference(meta, weights, adapter, config, ours["tokens"])
    apart = abs(theirs - ours["logits"]).max()
    print("logits apart", apart)
    assert apart < 1e-3, apart
    plain = reference(meta, weights, adapter, config | {"lora_alpha": 0}, ours["tokens"])
    assert abs(plain - ours["logits"]).max() > 1, "the adapter changes nothing"


@check
def a_merged_file_has_the_types_of_the_served_one():
    before, after = gguf(MODEL / "model.gguf"), gguf(train() / "merged.gguf")
    assert before[2] == after[2]
    assert {key: value for key, value in before[0].items() if key != "general.alignment"} == after[0]


def served(model):
    """`habit serve` with this file; its address."""
    data = folder / "data"
    server = subprocess.Popen(
        [HABIT, "--data-dir", data, "serve", "--model", model, "--bind", "127.0.0.1:0", "--no-auth", "--no-memory"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while True:
        try:
            url = json.loads((data / "server.json").read_text())["url"]
            urllib.request.urlopen(url + "/health", timeout=5).close()
            return server, url
        except (OSError, ValueError):
            assert server.poll() is None and time.monotonic() < deadline, "habit did not start"
            time.sleep(0.1)


@check
def llama_cpp_says_what_habit_says():
    import xllamacpp

    merged = train() / "merged.gguf"
    params = xllamacpp.CommonParams()
    params.model.path = str(merged)
    params.n_ctx, params.n_predict, params.n_parallel = 512, 24, 1
    params.cpuparams.n_threads = 2
    other = xllamacpp.Server(params)
    server, url = served(merged)
    try:
        for ask in [ask for ask, _ in EXAMPLES] + ["Where is the south door?"]:
            system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
            prompt = (
                f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{ask}<|im_end|>\n<|im_start|>assistant\n"
            )
            reply = other.handle_completions({"prompt": prompt, "temperature": 0, "max_tokens": 24})
            theirs = reply["choices"][0]["text"] if "choices" in reply else reply["content"]
            body = {"messages": [{"role": "user", "content": ask}], "temperature": 0, "max_tokens": 24}
            request = urllib.request.Request(
                url + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=120) as reply:
                ours = json.load(reply)["choices"][0]["message"]["content"]
            print(repr(ask), repr(ours))
            assert ours == theirs, (ask, ours, theirs)
    finally:
        server.terminate()
        server.wait(timeout=60)


main()
