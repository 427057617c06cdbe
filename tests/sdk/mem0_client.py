"""Memories by mem0's own Python client, as far as its REST goes here: it adds, lists, searches, changes, tells the history, and
deletes."""

import os

os.environ["MEM0_TELEMETRY"] = "False"

from checks import BASE, KEY, check, main, refused
from mem0 import MemoryClient
from mem0.exceptions import AuthenticationError

HOST = BASE.removesuffix("/v1")
MINE = {"user_id": "u"}


def client(key=KEY):
    return MemoryClient(api_key=key, host=HOST)


def texts(listed):
    return [one["memory"] for one in listed["results"]]


@check
def what_a_user_states_is_added_and_found():
    mem0 = client()
    said = [{"role": "user", "content": "My parrot is called Ptolemy. My favourite fruit is quince."}]
    added = mem0.add(said, user_id="u")
    assert {one["event"] for one in added["results"]} == {"ADD"}, added
    assert "My parrot is called Ptolemy" in " ".join(texts(mem0.get_all(filters=MINE))), mem0.get_all(filters=MINE)
    found = mem0.search("What is the name of my parrot?", filters=MINE)
    assert "Ptolemy" in found["results"][0]["memory"], found
    # Other clients' checks are not to hear of a parrot.
    for one in added["results"]:
        mem0.delete(one["id"])
    assert "Ptolemy" not in " ".join(texts(mem0.get_all(filters=MINE)))


@check
def one_memory_lives_and_ends():
    mem0 = client()
    (memory,) = mem0.add("The gate code is on the blue card.", user_id="u", infer=False)["results"]
    got = mem0.get(memory["id"])
    assert got["memory"] == "The gate code is on the blue card.", got
    mem0.update(memory["id"], text="The gate code is on the green card.")
    assert mem0.get(memory["id"])["memory"] == "The gate code is on the green card."
    events = [one["event"] for one in mem0.history(memory["id"])]
    assert events[0] == "ADD" and "UPDATE" in events, events
    mem0.delete(memory["id"])
    assert "green card" not in " ".join(texts(mem0.get_all(filters=MINE)))


@check
def a_wrong_key_is_refused():
    refused((AuthenticationError, ValueError), lambda: client("hb-wrong"))


main()
