"""What the official OpenAI SDK for Python sees. `make test` runs this, `make sdk` all files beside it."""

import base64
import json
import math
import struct
import time

import openai
from openai import OpenAI

from checks import ALONE, HELLO, PERSON, WEATHER, check, main, refused

client = OpenAI(max_retries=0)


def ask(content="Say hello.", **more):
    asked = dict(model="default", temperature=0, max_tokens=16, extra_headers=ALONE) | more
    return client.chat.completions.create(messages=[{"role": "user", "content": content}], **asked)


def length(vector):
    return math.sqrt(sum(x * x for x in vector))


@check
def models_are_listed():
    ids = [model.id for model in client.models.list()]
    assert len(ids) == 2, ids
    for id in ids:
        assert client.models.retrieve(id).id == id


@check
def a_completion_has_text_usage_and_reason():
    reply = ask(max_tokens=8)
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason in ("stop", "length")
    usage = reply.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 8
    assert reply.system_fingerprint


@check
def a_cut_reply_says_length():
    reply = ask("Tell me a long story.", max_tokens=3)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 3


@check
def a_stream_gives_the_same_text_and_usage():
    asked = dict(model="default", messages=HELLO, temperature=0, max_tokens=16, extra_headers=ALONE)
    whole = client.chat.completions.create(**asked)
    text, reasons, usage = "", [], None
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
        usage = chunk.usage or usage
    assert text == whole.choices[0].message.content, (text, whole.choices[0].message.content)
    assert reasons == [whole.choices[0].finish_reason]
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert usage.prompt_tokens == whole.usage.prompt_tokens


@check
def the_sdks_own_stream_helper_puts_it_together():
    with client.chat.completions.stream(
        model="default", messages=HELLO, temperature=0, stop=[" "], extra_headers=ALONE
    ) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content


@check
def a_stop_string_never_leaks():
    free = ask("Count: one, two, three, four, five.", max_tokens=40).choices[0].message.content
    stop = free.split()[1]
    text = ""
    stream = ask("Count: one, two, three, four, five.", max_tokens=40, stop=[stop], stream=True)
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason
    assert stop not in text, (stop, text)
    assert free.startswith(text)
    assert reason == "stop"


@check
def several_replies_have_their_own_places():
    reply = ask("Name a colour.", n=3, temperature=1, seed=7, max_tokens=6)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) > 1
    again = ask("Name a colour.", n=3, temperature=1, seed=7, max_tokens=6)
    assert [c.message.content for c in again.choices] == [c.message.content for c in reply.choices]
    one = ask("Name a colour.", temperature=1, seed=7, max_tokens=6)
    assert one.usage.prompt_tokens == reply.usage.prompt_tokens
    assert reply.usage.completion_tokens <= 18


@check
def several_replies_stream_side_by_side():
    texts = ["", ""]
    ends = []
    for chunk in ask("Name a colour.", n=2, temperature=1, seed=7, max_tokens=6, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends += [choice.index] if choice.finish_reason else []
    assert sorted(ends) == [0, 1]
    assert all(texts), texts


@check
def the_same_seed_gives_the_same_text():
    asked = dict(content="Tell me something.", temperature=1, seed=42, max_tokens=12)
    assert ask(**asked).choices[0].message.content == ask(**asked).choices[0].message.content


@check
def probabilities_fit_the_text():
    reply = ask("Say hello.", logprobs=True, top_logprobs=3, max_tokens=6)
    tokens = reply.choices[0].logprobs.content
    assert "".join(token.token for token in tokens).startswith(reply.choices[0].message.content[:4])
    joined = b"".join(bytes(token.bytes) for token in tokens)
    assert reply.choices[0].message.content.encode() in joined
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob >= token.top_logprobs[2].logprob
        # Greedy: the token is the likeliest.
        assert token.bytes == token.top_logprobs[0].bytes


@check
def probabilities_stream():
    tokens = []
    for chunk in ask("Say hello.", logprobs=True, max_tokens=6, stream=True):
        for choice in chunk.choices:
            tokens += choice.logprobs.content if choice.logprobs else []
    assert 0 < len(tokens) <= 6


@check
def a_required_tool_is_called():
    reply = ask("What is the weather in Paris?", tools=[WEATHER], tool_choice="required", max_tokens=100)
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls", choice
    call = choice.message.tool_calls[0]
    assert call.id and call.type == "function" and call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == {"city", "unit"} and arguments["unit"] in ("celsius", "fahrenheit"), arguments


@check
def a_named_tool_streams_its_arguments():
    named = {"type": "function", "function": {"name": "get_weather"}}
    calls = {}
    stream = ask("Weather in Rome?", tools=[WEATHER], tool_choice=named, max_tokens=100, stream=True)
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.index is not None
            if call.index not in calls:
                assert call.id and call.type == "function" and call.function.name == "get_weather", call
            calls[call.index] = calls.get(call.index, "") + (call.function.arguments or "")
    assert len(calls) == 1 and json.loads(calls[0])["unit"], calls


@check
def the_older_functions_are_called():
    asked = dict(functions=[WEATHER["function"]], function_call={"name": "get_weather"}, max_tokens=100, temperature=0)
    asked |= dict(model="default", messages=[{"role": "user", "content": "The weather in Rome?"}], extra_headers=ALONE)
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.message.function_call.name == "get_weather" and not choice.message.tool_calls, choice
    assert choice.finish_reason == "length" or json.loads(choice.message.function_call.arguments)["city"], choice
    first = next(iter(client.chat.completions.create(**asked, stream=True))).choices[0].delta
    assert first.role == "assistant" and first.content is None and first.function_call.name == "get_weather", first


@check
def a_tools_result_is_read():
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
    messages = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It is sunny and 21 degrees."},
    ]
    reply = client.chat.completions.create(
        model="default", messages=messages, tools=[WEATHER], max_tokens=24, temperature=0, extra_headers=ALONE
    )
    assert reply.choices[0].message.content or reply.choices[0].message.tool_calls


@check
def json_is_json():
    reply = ask("Reply with a JSON object.", response_format={"type": "json_object"}, max_tokens=200)
    if reply.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(reply.choices[0].message.content), dict)


@check
def a_schema_is_kept():
    schema = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    reply = ask("Tell me about Ann, who is 30.", response_format=schema, max_tokens=100)
    assert reply.choices[0].finish_reason == "stop", reply
    person = json.loads(reply.choices[0].message.content)
    assert set(person) == {"name", "age"} and 0 <= person["age"] <= 150


@check
def every_field_of_the_sdk_is_taken():
    reply = ask(
        "Hi", frequency_penalty=0.5, presence_penalty=0.5, top_p=0.9, user="ann", metadata={"a": "b"}, store=False,
        service_tier="auto", prompt_cache_key="k", parallel_tool_calls=True, logit_bias={"5": -100}, seed=1,
        reasoning_effort="low", max_completion_tokens=4, extra_body={"made_up": 1, "top_k": 5, "min_p": 0.1},
    )
    assert reply.usage.completion_tokens <= 4
    assert reply.service_tier == "default"


@check
def parts_and_developers_are_understood():
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "Say"}, {"type": "text", "text": "hello."}]},
    ]
    assert client.chat.completions.create(model="default", messages=messages, max_tokens=4, extra_headers=ALONE)


@check
def errors_are_the_sdks_own_classes():
    for error, code, call in [
        (openai.AuthenticationError, "invalid_api_key", lambda: OpenAI(api_key="hb-wrong-key").models.list()),
        (openai.NotFoundError, "model_not_found", lambda: ask(model="no-such-model")),
        (openai.NotFoundError, "model_not_found", lambda: client.models.retrieve("no/such")),
        (openai.BadRequestError, "invalid_value", lambda: ask(temperature=3)),
        (openai.BadRequestError, "invalid_value", lambda: ask(n=0)),
        (openai.BadRequestError, "invalid_value", lambda: client.chat.completions.create(model="default", messages=[])),
        (openai.BadRequestError, "context_length_exceeded", lambda: ask("word " * 20000)),
    ]:
        caught = refused(error, call)
        assert caught.body["message"], caught.body
        assert caught.code == code, caught


@check
def a_raw_prompt_goes_on():
    reply = client.completions.create(model="default", prompt="One, two, three,", max_tokens=6, temperature=0)
    assert reply.choices[0].text and reply.object == "text_completion"
    assert reply.usage.prompt_tokens > 0
    many = client.completions.create(model="default", prompt=["One, two,", "A, b,"], n=2, max_tokens=3, seed=1)
    assert [choice.index for choice in many.choices] == [0, 1, 2, 3]


@check
def a_raw_prompt_streams():
    asked = dict(model="default", prompt="One, two, three,", max_tokens=6, temperature=0)
    whole = client.completions.create(**asked)
    text = ""
    usage = None
    for chunk in client.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        text += "".join(choice.text for choice in chunk.choices)
        usage = chunk.usage or usage
    assert text == whole.choices[0].text
    assert usage.completion_tokens == whole.usage.completion_tokens


@check
def echo_scores_the_prompt():
    prompt = "The quick brown fox"
    asked = dict(model="default", prompt=prompt, echo=True, logprobs=1, temperature=0)
    reply = client.completions.create(**asked, max_tokens=2).choices[0]
    assert reply.text.startswith(prompt)
    lists = reply.logprobs
    assert lists.token_logprobs[0] is None and all(x <= 0 for x in lists.token_logprobs[1:])
    assert lists.text_offset[0] == 0
    for token, offset in zip(lists.tokens, lists.text_offset):
        assert reply.text[offset:].startswith(token), (token, offset)
    scored = client.completions.create(**asked, max_tokens=0).choices[0]
    assert scored.text == prompt
    assert scored.logprobs.tokens == lists.tokens[: len(scored.logprobs.tokens)]


@check
def vectors_come_packed_and_plain():
    plain = client.embeddings.create(model="default", input=["a dog", "a puppy", "tax law"], encoding_format="float")
    packed = client.embeddings.create(model="default", input="a dog")
    one, two, three = (item.embedding for item in plain.data)
    assert abs(length(one) - 1) < 1e-3
    assert sum(a * b for a, b in zip(one, two)) > sum(a * b for a, b in zip(one, three))
    assert max(abs(a - b) for a, b in zip(one, packed.data[0].embedding)) < 1e-4
    raw = client.embeddings.with_raw_response.create(model="default", input="a dog", encoding_format="base64")
    data = base64.b64decode(json.loads(raw.text)["data"][0]["embedding"])
    assert len(struct.unpack(f"<{len(data) // 4}f", data)) == len(one)
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > 6


@check
def vectors_may_be_shorter_and_texts_may_not_be_longer():
    short = client.embeddings.create(model="default", input="a dog", dimensions=64).data[0].embedding
    assert len(short) == 64 and abs(length(short) - 1) < 1e-3
    caught = refused(openai.BadRequestError, lambda: client.embeddings.create(model="default", input="word " * 3000))
    assert caught.code == "context_length_exceeded" and "maximum context length" in caught.body["message"]
    refused(openai.BadRequestError, lambda: client.embeddings.create(model="default", input=""))
    by_tokens = client.embeddings.create(model="default", input=[[2023, 2003], [1037]])
    assert len(by_tokens.data) == 2


@check
def leaving_a_stream_frees_the_engine():
    stream = ask("Tell me a very long story.", stream=True, max_tokens=2000, temperature=1)
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    stream.close()
    # A story to the end of the context would take minutes.
    began = time.monotonic()
    ask(max_tokens=2)
    assert time.monotonic() - began < 30


@check
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


@check
def a_forced_call_may_be_cut():
    asked = dict(model="default", messages=[{"role": "user", "content": "The weather in Rome?"}], tools=[WEATHER], temperature=0)
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        for most, called in ((4, False), (18, True)):
            made = client.chat.completions.create(tool_choice=choice, max_tokens=most, **asked).choices[0]
            assert made.finish_reason == "length" and bool(made.message.tool_calls) == called, made
            assert not made.message.content, "half of a call is no text"
            chunks = client.chat.completions.create(tool_choice=choice, max_tokens=most, stream=True, **asked)
            choices = [chunk.choices[0] for chunk in chunks]
            assert choices[-1].finish_reason == "length" and not any(one.delta.content for one in choices), choices


main()
