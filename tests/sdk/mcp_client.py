"""Memory as tools, by the Model Context Protocol's own Python client: over streamable HTTP, and `habit mcp` on standard
input and output."""

import asyncio
import contextlib
import os

import httpx2
from checks import BASE, KEY, check, main
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from plain import call

TOOLS = {"add_memory", "search_memory", "list_memories", "delete_memory", "search_documents"}


@contextlib.asynccontextmanager
async def over_http(key=KEY):
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
        async with streamable_http_client(BASE.removesuffix("/v1") + "/mcp", http_client=client) as (read, write, *_):
            async with ClientSession(read, write) as session:
                await session.initialize()
                yield session


@contextlib.asynccontextmanager
async def over_stdio():
    url = BASE.removesuffix("/v1")
    server = StdioServerParameters(command=os.environ["HABIT"], args=["mcp", "--url", url, "--key", KEY])
    async with stdio_client(server) as (read, write, *_):
        async with ClientSession(read, write) as session:
            await session.initialize()
            yield session


async def life(session, word):
    """Adds a memory, finds it, lists it, deletes it."""
    listed = await session.list_tools()
    assert {tool.name for tool in listed.tools} == TOOLS, listed
    added = await session.call_tool("add_memory", {"text": f"The word of the day is {word}."})
    (memory,) = added.structured_content["results"]
    found = await session.call_tool("search_memory", {"query": "What is the word of the day?"})
    assert any(word in one["memory"] for one in found.structured_content["results"]), found
    listed = await session.call_tool("list_memories", {"limit": 5})
    assert any(one["id"] == memory["id"] for one in listed.structured_content["results"]), listed
    gone = await session.call_tool("delete_memory", {"id": memory["id"]})
    assert not gone.is_error, gone
    again = await session.call_tool("delete_memory", {"id": memory["id"]})
    assert again.is_error, again


@check
def tools_over_http():
    async def run():
        async with over_http() as session:
            await life(session, "heliotrope")

    asyncio.run(run())


@check
def tools_over_stdio():
    async def run():
        async with over_stdio() as session:
            await life(session, "periwinkle")

    asyncio.run(run())


@check
def what_a_tool_adds_the_chat_knows_and_the_other_way_round():
    async def run():
        async with over_http() as session:
            await session.call_tool("add_memory", {"text": "My boat is called Morgenrot."})
            status, headers, _ = call(
                "POST", "/v1/chat/completions",
                {"messages": [{"role": "user", "content": "What is my boat called?"}], "max_tokens": 8},
            )
            assert status == 200
            _, _, turn = call("GET", f"/v1/turns/{headers['x-habit-turn']}")
            assert any("Morgenrot" in passage["text"] for passage in turn["injected"]), turn

    asyncio.run(run())


@check
def a_wrong_key_is_refused():
    async def run():
        try:
            async with over_http("hb-0000000000000000-wrong"):
                raise AssertionError("it was let in")
        except AssertionError:
            raise
        except BaseException as refused:  # noqa: BLE001 - the client wraps what the transport raised in groups of its own
            assert "let in" not in str(refused)

    asyncio.run(run())


main()
