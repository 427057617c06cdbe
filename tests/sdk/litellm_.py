"""What litellm sees."""

import json

import litellm

from checks import ALONE, BASE, HELLO, KEY, PERSON, WEATHER, check, main, refused

litellm.telemetry = False


def ask(**more):
    asked = dict(model="openai/default", messages=HELLO, api_base=BASE, api_key=KEY, temperature=0, max_tokens=16)
    return litellm.completion(**(asked | dict(extra_headers=ALONE, num_retries=0) | more))


@check
def a_chat_answers():
    reply = ask()
    assert reply.choices[0].message.content and reply.usage.total_tokens > 0


@check
def a_chat_streams():
    pieces = list(ask(stream=True, stream_options={"include_usage": True}))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == ask().choices[0].message.content
    assert litellm.stream_chunk_builder(pieces).choices[0].message.content == text


@check
def tools_are_called():
    reply = ask(tools=[WEATHER], tool_choice="required", max_tokens=100)
    assert json.loads(reply.choices[0].message.tool_calls[0].function.arguments)["unit"]


@check
def a_schema_is_kept():
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    assert json.loads(ask(response_format=schema, max_tokens=100).choices[0].message.content)["name"] is not None


@check
def errors_are_its_own_classes():
    refused(litellm.AuthenticationError, lambda: ask(api_key="hb-wrong"))
    refused(litellm.NotFoundError, lambda: ask(model="openai/no-such-model"))
    refused(litellm.BadRequestError, lambda: ask(temperature=3))
    long = [{"role": "user", "content": "word " * 20000}]
    refused(litellm.ContextWindowExceededError, lambda: ask(messages=long))


@check
def texts_are_embedded():
    made = litellm.embedding(model="openai/all-minilm-l6-v2", input=["a dog", "a cat"], api_base=BASE, api_key=KEY)
    assert len(made.data) == 2 and len(made.data[0]["embedding"]) == 384


@check
def documents_are_put_in_order():
    made = litellm.rerank(
        model="cohere/all-minilm-l6-v2", query="a pet", documents=["tax law", "a dog"], top_n=1,
        api_base=BASE.removesuffix("/v1") + "/v1/rerank", api_key=KEY,
    )
    assert made.results[0]["index"] == 1, made


@check
def a_raw_prompt_goes_on():
    reply = litellm.text_completion(
        model="text-completion-openai/default", prompt="One, two,", max_tokens=4, api_base=BASE, api_key=KEY
    )
    assert reply.choices[0].text


main()
