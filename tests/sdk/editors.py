"""Requests as editors, agents and chat front ends write them: their fields, headers and order of calls, without the
programs themselves."""

import json

from checks import KEY, WEATHER, check, main
from plain import CHAT, call

SYSTEM = "You are a careful assistant. Answer in one short sentence. " * 40


def events(text):
    """The JSON of each event, and whether the stream was closed in OpenAI's way."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"], lines[-1:] == ["[DONE]"]


def streamed(path, body, headers=None):
    status, reply, text = call("POST", path, body | {"stream": True}, headers)
    assert status == 200, text
    assert reply["content-type"].startswith("text/event-stream") and reply["x-accel-buffering"] == "no", reply
    return events(text)


@check
def cline_and_roo_stream_with_usage():
    body = {
        "model": "smollm2-135m-instruct", "temperature": 0, "stream_options": {"include_usage": True}, "max_completion_tokens": 16,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": [
                {"type": "text", "text": "<task>\nSay hello.\n</task>"},
                {"type": "text", "text": "<environment_details>\n# Time\nnoon\n</environment_details>"},
            ]},
        ],
    }
    chunks, done = streamed(CHAT, body)
    assert done and chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["prompt_tokens"] > 400


@check
def an_agents_tool_loop_goes_round():
    call_part = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Rome","unit":"celsius"}'}}
    for content in (None, ""):
        body = {
            "model": "smollm2-135m-instruct", "max_tokens": 16, "tools": [WEATHER], "tool_choice": "auto", "parallel_tool_calls": False,
            "messages": [
                {"role": "system", "content": "Use tools."},
                {"role": "user", "content": "Weather in Rome?"},
                {"role": "assistant", "content": content, "tool_calls": [call_part]},
                {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": '{"degrees": 21}'}]},
            ],
        }
        chunks, done = streamed(CHAT, body)
        assert done and chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length", "tool_calls"), chunks[-1]


@check
def continue_completes_code():
    stops = ["<|endoftext|>", "\n\n", "/src/", "#- coding: utf-8", "```", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>"]
    body = {
        "model": "smollm2-135m-instruct", "prompt": "<fim_prefix>def add(a, b):\n    return <fim_suffix>\n<fim_middle>", "max_tokens": 12,
        "temperature": 0.01, "stop": stops, "raw": True, "keep_alive": 1800, "options": {"num_ctx": 4096},
    }
    chunks, done = streamed("/v1/completions", body)
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks if chunk["choices"])
    assert done and not any(stop in text for stop in stops), text


@check
def continue_reranks():
    body = {"model": "all-minilm-l6-v2", "query": "fruit", "documents": ["a car", "an apple"]}
    for path in ("/v1/rerank", "/rerank"):
        status, _, reply = call("POST", path, body)
        assert status == 200 and reply["results"][0]["index"] == 1 and "relevance_score" in reply["results"][0], reply


@check
def open_webui_sends_what_is_its_own():
    status, _, models = call("GET", "/v1/models")
    assert status == 200 and models["object"] == "list" and all(model["object"] == "model" for model in models["data"])
    extras = {
        "chat_id": "c", "id": "m", "session_id": "s", "background_tasks": {"title_generation": True}, "features": {"web_search": False},
        "model_item": {"id": "x"}, "params": {}, "tool_servers": [], "variables": {"{{USER_NAME}}": "Ann"}, "filter_ids": [],
    }
    body = {"model": models["data"][0]["id"], "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
    chunks, done = streamed(CHAT, body | extras)
    assert done and chunks
    side = {"metadata": {"task": "title_generation", "chat_id": "c"}, "max_completion_tokens": 8, "stream": False}
    assert call("POST", CHAT, {**body, "max_tokens": None, **side})[0] == 200


@check
def librechat_and_jetbrains_send_users_and_stops():
    body = {
        "model": "smollm2-135m-instruct", "user": "66f0c0", "stop": ["||>", "\nUser:", "<|diff_marker|>"], "temperature": 1, "top_p": 1,
        "presence_penalty": 0, "frequency_penalty": 0, "max_tokens": 4, "n": 1, "logit_bias": None, "functions": None,
        "messages": [{"role": "user", "name": "Ann", "content": "hi"}],
    }
    assert streamed(CHAT, body)[1]


@check
def zed_and_copilot_list_models_without_the_v1():
    for path in ("/models", "/v1/models/", "/v1/models/smollm2-135m-instruct"):
        assert call("GET", path)[0] == 200, path


@check
def codex_streams_responses():
    body = {
        "model": "smollm2-135m-instruct", "instructions": SYSTEM, "store": False, "tool_choice": "auto", "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "019a",
        "text": {"verbosity": "medium"}, "max_output_tokens": 16,
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions>all</permissions>"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context><cwd>/tmp</cwd></environment_context>"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "list the files"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "gAAAA"},
            {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "call_1"},
            {"type": "function_call_output", "call_id": "call_1", "output": '{"output":"a.txt\\n","metadata":{"exit_code":0}}'},
        ],
        "tools": [
            {"type": "function", "name": "shell", "description": "Runs a command", "strict": False, "parameters": {
                "type": "object", "properties": {"command": {"type": "array", "items": {"type": "string"}}}, "required": ["command"], "additionalProperties": False}},
            {"type": "function", "name": "update_plan", "description": "", "strict": False, "parameters": {"type": "object", "properties": {}}},
        ],
    }
    for headers in ({"originator": "codex_cli_rs", "session_id": "x", "OpenAI-Beta": "responses=experimental"}, None):
        told, _ = streamed("/v1/responses", body, headers)
        assert [event["sequence_number"] for event in told] == list(range(len(told)))
        assert told[0]["type"] == "response.created"
        last = told[-1]
        assert last["type"] in ("response.completed", "response.incomplete") and last["response"]["usage"]["total_tokens"] > 0, last


@check
def claude_code_talks_anthropic():
    body = {
        "model": "smollm2-135m-instruct", "max_tokens": 32000, "temperature": 1, "metadata": {"user_id": "user_abc_account__session_1"},
        "system": [
            {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Be brief: one word.", "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "<system-reminder>none</system-reminder>"},
                {"type": "text", "text": "Say hello.", "cache_control": {"type": "ephemeral"}},
            ]},
        ],
        "tools": [{"name": "Bash", "description": "Runs a command", "input_schema": {
            "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"command": {"type": "string"}},
            "required": ["command"], "additionalProperties": False}}],
    }
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14", "x-api-key": KEY}
    status, _, counted = call("POST", "/v1/messages/count_tokens?beta=true", {k: body[k] for k in ("model", "system", "messages", "tools")}, headers, key=None)
    assert status == 200 and counted["input_tokens"] > 20, counted
    quick = body | {"stop_sequences": ["\n", ".", "!", ","]}
    told, _ = streamed("/v1/messages?beta=true", quick, headers)
    kinds = [event["type"] for event in told if event["type"] != "ping"]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"], kinds


main()
