"""Every answer as the SDKs' own models have it: their clients take anything, their models do not."""

import json

import anthropic.types
import httpx
import openai
import openai.types as types
import pydantic
from openai.types import chat, conversations, responses, vector_stores

from checks import ALONE, BASE, HELLO, KEY, PERSON, WEATHER, check, main

client = openai.OpenAI(max_retries=0)
http = httpx.Client(headers={"authorization": f"Bearer {KEY}", **ALONE}, timeout=120, trust_env=False)
FUNCTION = {"type": "function", "strict": True, **WEATHER["function"]}
BRIEF = {"model": "default", "temperature": 0, "max_output_tokens": 24}


def fits(model, data):
    pydantic.TypeAdapter(model).validate_python(data)
    return data


def sent(method, path, **request):
    reply = http.request(method, BASE + path, **request)
    assert reply.status_code == 200, (path, reply.text)
    return reply


def post(path, body):
    return sent("POST", path, json=body).json()


def events(path, body):
    lines = sent("POST", path, json=body | {"stream": True}).text.splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line != "data: [DONE]"]


def a_store():
    file = sent("POST", "/files", files={"file": ("a.md", b"The notice period is six weeks.")}, data={"purpose": "assistants"}).json()
    fits(types.FileObject, file)
    store = fits(types.VectorStore, post("/vector_stores", {"file_ids": [file["id"]]}))["id"]
    client.vector_stores.files.poll(file["id"], vector_store_id=store)
    return store, file["id"]


@check
def stores():
    store, file = a_store()
    fits(vector_stores.VectorStoreFile, sent("GET", f"/vector_stores/{store}/files/{file}").json())
    fits(vector_stores.VectorStoreFileBatch, post(f"/vector_stores/{store}/file_batches", {"file_ids": [file]}))
    client.vector_stores.files.poll(file, vector_store_id=store)
    for found in post(f"/vector_stores/{store}/search", {"query": "notice"})["data"]:
        fits(types.VectorStoreSearchResponse, found)


@check
def answers():
    search = {"type": "file_search", "vector_store_ids": [a_store()[0]]}
    custom = {"type": "custom", "name": "sh"}
    schema = {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}
    for body in (
        {"input": "Say hello.", "background": True},
        {"input": "Say hello.", "top_logprobs": 2, "include": ["message.output_text.logprobs"]},
        {"input": "The weather in Rome?", "tools": [FUNCTION], "tool_choice": "required", "max_output_tokens": 100},
        {"input": "The weather in Rome?", "tools": [FUNCTION], "tool_choice": "required", "max_output_tokens": 18},
        {"input": "List files.", "tools": [custom], "tool_choice": {"type": "custom", "name": "sh"}, "max_output_tokens": 60},
        {"input": "The notice period?", "tools": [search, FUNCTION], "include": ["file_search_call.results"]},
        {"input": "Ada is 36.", "text": {"format": schema}, "metadata": {"a": "b"}, "truncation": "auto", "user": "u"},
    ):
        fits(responses.Response, post("/responses", BRIEF | body))
        for event in events("/responses", BRIEF | body):
            fits(responses.ResponseStreamEvent, event)
    talk = fits(conversations.Conversation, post("/conversations", {"items": HELLO}))["id"]
    post("/responses", BRIEF | {"input": "The notice period?", "conversation": talk, "tools": [search]})
    items = sent("GET", f"/conversations/{talk}/items").json()["data"]
    assert [fits(conversations.ConversationItem, item)["type"] for item in items].count("file_search_call") == 1, items


@check
def chats():
    calls = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 100}
    for more in ({}, calls, calls | {"max_tokens": 18}, {"logprobs": True, "top_logprobs": 2}, {"n": 2, "temperature": 1}):
        body = {"model": "default", "messages": HELLO, "temperature": 0, "max_tokens": 16} | more
        fits(chat.ChatCompletion, post("/chat/completions", body))
        for chunk in events("/chat/completions", body | {"stream_options": {"include_usage": True}}):
            fits(chat.ChatCompletionChunk, chunk)


@check
def messages():
    tool = {"name": "get_weather", "input_schema": WEATHER["function"]["parameters"]}
    uses = {"tools": [tool], "tool_choice": {"type": "any"}, "max_tokens": 100}
    for more in ({}, uses, uses | {"max_tokens": 18}, {"stop_sequences": ["e"]}):
        body = {"model": "default", "messages": HELLO, "max_tokens": 16, "temperature": 0} | more
        fits(anthropic.types.Message, post("/messages", body))
        for event in events("/messages", body):
            # Documented, but no model of the SDK's.
            if event != {"type": "ping"}:
                fits(anthropic.types.RawMessageStreamEvent, event)


main()
