#!/usr/bin/env python3
"""Runs the files of this folder against a fresh `habit serve` with the real model, each client in its own process.

    run.py HABIT [FILE ...]

HABIT is the binary. HABIT_SDK_DIR holds `venv` and `node_modules` (scripts/sdk-tests makes them); HABIT_TEST_MODELS is
the model store. A file is a client; what it shares with the others is in checks.py and checks.mjs.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

here = pathlib.Path(__file__).parent
sdk = pathlib.Path(os.environ["HABIT_SDK_DIR"])
SHARED = {"checks.py", "checks.mjs", "plain.py", "run.py"}
# After all others: it sends thousands of requests.
LAST = "fuzz.py"
# Only when it is named.
ASKED_FOR = {"soak.py"}


def clients(named):
    files = [here / name for name in named] or sorted(
        file for file in here.iterdir() if file.suffix in (".py", ".mjs") and file.name not in SHARED | ASKED_FOR
    )
    return sorted(files, key=lambda file: file.name == LAST)


def start(habit, data):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HABIT_")}
    environment["HABIT_DATA_MODELS"] = os.environ["HABIT_TEST_MODELS"]
    log = open(data / "log", "w")
    options = [habit, "--data-dir", str(data / "data")]
    server = subprocess.Popen(
        [*options, "serve", "--bind", "127.0.0.1:0"], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 180
    while True:
        try:
            url = json.loads((data / "data" / "server.json").read_text())["url"]
            urllib.request.urlopen(url + "/health", timeout=5).close()
            break
        except (OSError, ValueError):
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                sys.exit(f"habit did not start:\n{(data / 'log').read_text()}")
            time.sleep(0.1)
    def create_key(*more):
        made = subprocess.run(
            [*options, "keys", "create", "--team", "t", *more], env=environment, capture_output=True, text=True, check=True
        )
        return next(word for word in made.stdout.split() if word.startswith("hb-"))

    return server, url, create_key("--user", "u"), create_key("--user", "admin", "--admin")


def main():
    habit, *named = sys.argv[1:]
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        server, url, key, admin = start(habit, pathlib.Path(folder))
        environment = os.environ | {
            "OPENAI_BASE_URL": url + "/v1", "OPENAI_API_KEY": key, "HABIT_ADMIN_KEY": admin,
            "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": key,
            "HABIT_PID": str(server.pid), "HABIT": habit, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1",
        }
        try:
            for file in clients(named):
                began = time.monotonic()
                program = "node" if file.suffix == ".mjs" else str(sdk / "venv" / "bin" / "python")
                print(f"== {file.name}", flush=True)
                if subprocess.run([program, file], env=environment).returncode:
                    failed.append(file.name)
                print(f"== {file.name}: {time.monotonic() - began:.0f} s", flush=True)
                if server.poll() is not None:
                    failed.append(f"habit itself, during {file.name}")
                    break
        finally:
            server.terminate()
            server.wait(timeout=60)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


main()
