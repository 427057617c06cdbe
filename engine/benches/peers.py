"""What `speed.rs` asks of Habit's engines, asked of others: `pip install xllamacpp mistralrs`, then
`python peers.py llamacpp|mistralrs MODEL.gguf THREADS`."""
import json, os, sys, threading, time, urllib.request

arm, model, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
ROUNDS = 4


def llamacpp():
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_ctx, params.n_parallel, params.port = 8 * 4096, 8, 0
    server = xllamacpp.Server(params)
    url = server.listening_address + "/v1/chat/completions"

    def ask(messages, most):
        body = {"messages": messages, "max_tokens": most, "temperature": 0, "stream": True, "cache_prompt": True,
                "stream_options": {"include_usage": True}}
        request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
        begun, first, text, usage = time.perf_counter(), None, "", None
        for line in urllib.request.urlopen(request):
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            usage = chunk.get("usage") or usage
            piece = chunk["choices"] and chunk["choices"][0]["delta"].get("content")
            if piece:
                first = first or time.perf_counter() - begun
                text += piece
        whole = time.perf_counter() - begun
        return text, first or whole, whole, usage["prompt_tokens"], usage["completion_tokens"]

    return ask, server


def mistralrs():
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    import mistralrs

    folder, name = os.path.split(model)
    runner = mistralrs.Runner(which=mistralrs.Which.GGUF(folder, name, tok_model_id=folder), max_seqs=8)

    def ask(messages, most):
        request = mistralrs.ChatCompletionRequest(model="default", messages=messages, max_tokens=most, temperature=0.0,
                                                  stream=True)
        begun, first, text, usage = time.perf_counter(), None, "", None
        for chunk in runner.send_chat_completion_request(request):
            piece = chunk.choices[0].delta.content
            usage = getattr(chunk, "usage", None) or usage
            if piece:
                first = first or time.perf_counter() - begun
                text += piece
        whole = time.perf_counter() - begun
        return text, first or whole, whole, usage.prompt_tokens, usage.completion_tokens

    return ask, runner


ask, keep = {"llamacpp": llamacpp, "mistralrs": mistralrs}[arm]()
say = lambda text: [{"role": "user", "content": text}]
prefill = decode = eight = 0
for turn in range(ROUNDS):
    text = f"{turn} " + "the ship sails on " * 111
    _, first, _, prompt, _ = ask([{"role": "system", "content": text}], 1)
    prefill = max(prefill, prompt / first)
    _, first, whole, _, written = ask(say(f"Write a long story about harbour number {turn}."), 128)
    decode = max(decode, (written - 1) / (whole - first))
    counts = []
    run = lambda n: counts.append(ask(say(f"Write a long story about ship number {n} in harbour {turn}."), 96)[4])
    begun = time.perf_counter()
    several = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    [thread.start() for thread in several]
    [thread.join() for thread in several]
    eight = max(eight, sum(counts) / (time.perf_counter() - begun))
print(f"{arm}: prefill {prefill:.0f} tok/s, decode {decode:.0f} tok/s, eight at once {eight:.0f} tok/s in all", flush=True)
messages, firsts = [], []
for turn in range(1, 11):
    text = "I like long walks on the beach. " * 6 + f" Tell me fact number {turn} about the sea."
    messages.append({"role": "user", "content": text})
    text, first, _, prompt, _ = ask(messages, 64)
    firsts.append((prompt, first * 1e3))
    messages.append({"role": "assistant", "content": text})
for turn in (1, 2, 5, 10):
    print(f"{arm}: turn {turn}: first token after {firsts[turn - 1][1]:.0f} ms ({firsts[turn - 1][0]} prompt tokens)", flush=True)
