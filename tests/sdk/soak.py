"""A soak: for some minutes (HABIT_SOAK, 30 if unset) many clients at once ask, stream, leave, stall, send half of a
request and send garbage. In the end nothing may have leaked, no place may be taken, and no finished turn may be missing.

    scripts/sdk-tests soak.py

Not part of the other checks: it takes its time. It prints the server's memory each minute.
"""

import asyncio
import json
import os
import pathlib
import random
import time
import urllib.parse

from checks import BASE, KEY, check, main
from plain import call

MINUTES = float(os.environ.get("HABIT_SOAK", "30"))
CLIENTS = 12
# Of what is resident at half time, when the prefix cache (1 GiB) has filled: growth beyond this is a leak.
MOST_GROWTH = 1.25
server = urllib.parse.urlsplit(BASE)
pid = os.environ["HABIT_PID"]


def resident():
    """MiB."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def files():
    """Open files of the server: connections that stay are seen here."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def request(body, path="/v1/chat/completions", extra=""):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
        f"connection: close\r\n{extra}content-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


class Soak:
    def __init__(self):
        self.finished, self.counts, self.unexpected = [], {}, []

    async def one(self, name, dice):
        reader, writer = await asyncio.open_connection(server.hostname, server.port)
        try:
            await getattr(self, name)(reader, writer, dice)
            self.counts[name] = self.counts.get(name, 0) + 1
        except (OSError, asyncio.IncompleteReadError):
            # Garbage may be hung up on.
            self.counts[name + ", hung up on"] = self.counts.get(name + ", hung up on", 0) + 1
        finally:
            writer.close()

    async def status(self, reader, allowed):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split()[1])
        if status not in allowed:
            self.unexpected.append((status, (await reader.read(500)).decode(errors="replace")))
        turn = next((line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("x-habit-turn")), None)
        return status, turn

    def ask(self, dice, **more):
        word = dice.choice(["tea", "rain", "crabs", "tides", "moss", "rust"])
        return {"messages": [{"role": "user", "content": f"Say something of {word} {dice.randrange(1000)}."}], "max_tokens": 16} | more

    async def asks(self, reader, writer, dice):
        writer.write(request(self.ask(dice)))
        status, turn = await self.status(reader, (200, 429, 503))
        await reader.read()
        if status == 200:
            self.finished.append(turn)

    async def streams(self, reader, writer, dice):
        writer.write(request(self.ask(dice, stream=True)))
        status, turn = await self.status(reader, (200, 429, 503))
        text = await reader.read()
        if status == 200 and b"[DONE]" in text:
            self.finished.append(turn)
        elif status == 200:
            self.unexpected.append((status, text[-300:].decode(errors="replace")))

    async def leaves(self, reader, writer, dice):
        writer.write(request(self.ask(dice, stream=dice.random() < 0.7, max_tokens=200)))
        await asyncio.sleep(dice.random() * 2)

    async def stalls(self, reader, writer, dice):
        writer.write(request(self.ask(dice, stream=True, max_tokens=200)))
        await asyncio.sleep(5 + dice.random() * 10)

    async def sends_half(self, reader, writer, dice):
        whole = request(self.ask(dice))
        writer.write(whole[: dice.randrange(1, len(whole))])
        await writer.drain()
        await asyncio.sleep(dice.random() * 3)

    async def sends_garbage(self, reader, writer, dice):
        kind = dice.randrange(3)
        if kind == 0:
            writer.write(dice.randbytes(dice.randrange(1, 4000)))
            writer.write_eof()
        elif kind == 1:
            writer.write(request(dice.randbytes(dice.randrange(1, 4000))))
        else:
            writer.write(request(self.ask(dice, temperature="hot", messages=[{"role": "x", "content": dice.randrange(9)}])))
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        if not 400 <= status < 500:
            self.unexpected.append((status, "garbage was taken"))
        await reader.read()

    async def embeds(self, reader, writer, dice):
        writer.write(request({"input": [f"moss {dice.random()}"] * 3, "model": "all-minilm-l6-v2"}, "/v1/embeddings"))
        await self.status(reader, (200, 429, 503))
        await reader.read()

    async def client(self, number, until):
        dice = random.Random(number)
        names = ["asks"] * 4 + ["streams"] * 4 + ["leaves"] * 3 + ["stalls", "sends_half", "sends_garbage", "embeds"]
        while time.monotonic() < until:
            await self.one(dice.choice(names), dice)

    async def run(self):
        began = time.monotonic()
        until = began + MINUTES * 60
        clients = [asyncio.create_task(self.client(number, until)) for number in range(CLIENTS)]
        seen = []
        while time.monotonic() < until:
            await asyncio.sleep(min(60, MINUTES * 6))
            seen.append((time.monotonic() - began, resident(), files()))
            print(f"{seen[-1][0] / 60:6.1f} min  {seen[-1][1]:7.1f} MiB  {seen[-1][2]:4} files  {self.counts}", flush=True)
        await asyncio.gather(*clients)
        return seen


@check
def nothing_leaks_sticks_or_is_lost():
    soak = Soak()
    seen = asyncio.run(soak.run())
    assert not soak.unexpected, soak.unexpected[:5]
    # Every place is free again, soon.
    admin = os.environ["HABIT_ADMIN_KEY"]
    deadline = time.monotonic() + 60
    while True:
        queue = call("GET", "/v1/admin/queue", key=admin)[2]["data"]
        if not any(engine["running"] or engine["waiting"] for engine in queue):
            break
        assert time.monotonic() < deadline, queue
        time.sleep(0.2)
    missing = [turn for turn in soak.finished if call("GET", f"/v1/turns/{turn}")[0] != 200]
    assert not missing, f"{len(missing)} of {len(soak.finished)} finished turns are not recorded"
    warm = [memory for at, memory, _ in seen if at >= MINUTES * 30] or [seen[0][1]]
    print(f"{len(soak.finished)} finished turns, all recorded; memory {warm[0]:.0f} -> {warm[-1]:.0f} MiB, most {max(warm):.0f}; {files()} files")
    assert warm[-1] < warm[0] * MOST_GROWTH, warm
    assert call("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2})[0] == 200


main()
