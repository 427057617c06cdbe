"""What clients without an SDK see: spellings of URLs, keys and bodies, and every way to be refused."""

import gzip
import json

from checks import KEY, check, main
from plain import CHAT, call, refused, server

HI = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


@check
def urls_have_many_spellings():
    for path in (CHAT, "/chat/completions", "//v1//chat/completions/", "/v1/chat/completions/"):
        assert call("POST", path, HI)[0] == 200, path


@check
def keys_come_in_three_headers():
    for header in ("authorization", "x-api-key", "api-key"):
        value = f"bearer {KEY}" if header == "authorization" else KEY
        assert call("GET", "/v1/models", headers={header: value}, key=None)[0] == 200, header
    for empty in ({}, {"authorization": "Bearer "}, {"x-api-key": ""}):
        error = refused(401, "invalid_api_key", "GET", "/v1/models", headers=empty, key=None)
        assert "Incorrect API key provided" in error["message"]


@check
def bodies_may_be_packed():
    packed = gzip.compress(json.dumps(HI).encode())
    assert call("POST", CHAT, packed, {"content-encoding": "gzip"})[0] == 200
    refused(400, "unreadable_body", "POST", CHAT, b"no gzip", {"content-encoding": "gzip"})


@check
def wrong_bodies_are_refused():
    for body in (b"", b"{", b"[1, 2]", b"\xff\xfe", b"null", b'"text"', b"{}{}"):
        got, _, answer = call("POST", CHAT, body)
        assert got == 400 and answer["error"]["code"], (body, answer)
    refused(415, "unsupported_media_type", "POST", CHAT, b"a=b", {"content-type": "application/x-www-form-urlencoded"})


@check
def wrong_routes_and_methods_are_refused():
    refused(404, "unknown_url", "POST", "/v1/no/such")
    refused(405, "method_not_allowed", "GET", CHAT)
    refused(405, "method_not_allowed", "DELETE", "/v1/embeddings")


@check
def nulls_are_absent_and_unknown_fields_ignored():
    fields = ("temperature", "top_p", "n", "stop", "tools", "logprobs", "seed", "user", "stream", "response_format")
    assert call("POST", CHAT, HI | dict.fromkeys(fields) | {"made_up": {"a": 1}})[0] == 200


@check
def wrong_fields_are_named():
    for field, value in [
        ("temperature", 2.5), ("top_p", -1), ("n", 0), ("max_tokens", 0), ("stop", 3), ("stream", "yes"), ("tools", {}),
        ("tool_choice", "required"), ("response_format", {"type": "xml"}), ("logit_bias", {"a": 1}), ("top_logprobs", 3),
        ("presence_penalty", 3), ("messages", "hi"), ("seed", "x"), ("min_p", 2), ("top_k", -5),
    ]:
        got, _, body = call("POST", CHAT, HI | {field: value})
        assert got == 400 and body["error"]["param"].startswith(field), (field, body)


@check
def a_stream_is_made_of_events():
    status, headers, text = call("POST", CHAT, HI | {"stream": True})
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    assert headers["x-accel-buffering"] == "no" and "content-encoding" not in headers
    events = [event for event in text.split("\n\n") if event.startswith("data: ")]
    assert events[-1] == "data: [DONE]"
    assert json.loads(events[0][6:])["choices"][0]["delta"]["role"] == "assistant"
    assert all("usage" not in json.loads(event[6:]) for event in events[:-1])


@check
def tokens_go_there_and_back():
    made = call("POST", "/tokenize", {"prompt": "Grüße 🐕"})[2]
    assert made["count"] == len(made["tokens"]) > 0
    assert call("POST", "/detokenize", {"tokens": made["tokens"]})[2]["prompt"] == "Grüße 🐕"
    assert call("POST", "/tokenize", HI)[2]["count"] > made["count"]
    refused(400, "invalid_value", "POST", "/detokenize", {"tokens": [4294967295]})


@check
def documents_are_put_in_order():
    body = {"query": "a pet", "documents": ["tax law", {"text": "a dog"}], "return_documents": True}
    made = call("POST", "/v2/rerank", body)[2]
    assert [one["index"] for one in made["results"]] == [1, 0] and made["results"][0]["document"]["text"] == "a dog"


main()
