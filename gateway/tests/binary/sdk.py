"""What the official OpenAI SDK sees. Run by sdk.rs with OPENAI_BASE_URL and OPENAI_API_KEY set."""

import time

import openai
from openai import OpenAI

client = OpenAI()
HELLO = [{"role": "user", "content": "Say hello."}]


def models_are_listed():
    ids = [model.id for model in client.models.list()]
    assert len(ids) == 1, ids
    assert client.models.retrieve(ids[0]).id == ids[0]


def a_completion_has_text_usage_and_reason():
    reply = client.chat.completions.create(model="default", messages=HELLO, temperature=0, max_tokens=8)
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason in ("stop", "length")
    usage = reply.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 8


def a_cut_reply_says_length():
    reply = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "Tell me a long story."}], temperature=0, max_tokens=3
    )
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 3


def a_stream_gives_the_same_text_and_usage():
    asked = dict(model="default", messages=HELLO, temperature=0, max_tokens=16, extra_headers={"X-Habit-Memory": "off"})
    whole = client.chat.completions.create(**asked)
    text, reasons, usage = "", [], None
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
        usage = chunk.usage or usage
    assert text == whole.choices[0].message.content, (text, whole.choices[0].message.content)
    assert reasons == [whole.choices[0].finish_reason]
    assert usage == whole.usage


def a_stop_string_never_leaks():
    asked = dict(model="default", messages=[{"role": "user", "content": "Count: one, two, three, four, five."}], temperature=0)
    asked |= dict(max_tokens=40, extra_headers={"X-Habit-Memory": "off"})
    free = client.chat.completions.create(**asked).choices[0].message.content
    stop = free.split()[1]
    text = ""
    for chunk in client.chat.completions.create(**asked, stop=[stop], stream=True):
        text += chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason
    assert stop not in text, (stop, text)
    assert free.startswith(text)
    assert reason == "stop"


def errors_are_the_sdks_own_classes():
    for error, call in [
        (openai.AuthenticationError, lambda: OpenAI(api_key="hb-wrong-key").models.list()),
        (openai.NotFoundError, lambda: client.chat.completions.create(model="no-such-model", messages=HELLO)),
        (openai.BadRequestError, lambda: client.chat.completions.create(model="default", messages=[])),
        (
            openai.BadRequestError,
            lambda: client.chat.completions.create(
                model="default", messages=[{"role": "user", "content": "word " * 20000}]
            ),
        ),
    ]:
        try:
            call()
        except error as caught:
            assert caught.body["message"], caught.body
            assert isinstance(caught.code, str), caught.code
        else:
            raise AssertionError(f"no {error.__name__}")


def leaving_a_stream_frees_the_engine():
    stream = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "Tell me a very long story."}], stream=True
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    stream.close()
    # A story to the end of the context would take minutes.
    began = time.monotonic()
    client.chat.completions.create(model="default", messages=HELLO, max_tokens=2)
    assert time.monotonic() - began < 30


def what_was_said_is_remembered():
    client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "My sister Olga plays the cello."}], max_tokens=2
    )
    raw = client.chat.completions.with_raw_response.create(
        model="default", messages=[{"role": "user", "content": "Which instrument does my sister Olga play?"}], temperature=0
    )
    turn = client.get(f"/turns/{raw.headers['x-habit-turn']}", cast_to=object)
    assert "cello" in str(turn["injected"]), turn["injected"]
    assert "cello" in raw.parse().choices[0].message.content


checks = [
    models_are_listed,
    a_completion_has_text_usage_and_reason,
    a_cut_reply_says_length,
    a_stream_gives_the_same_text_and_usage,
    a_stop_string_never_leaks,
    errors_are_the_sdks_own_classes,
    leaving_a_stream_frees_the_engine,
    what_was_said_is_remembered,
]
for check in checks:
    check()
    print("ok", check.__name__)
print(len(checks), "passed")
