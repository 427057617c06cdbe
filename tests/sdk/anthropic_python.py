"""What Anthropic's Python SDK sees."""

import os

import anthropic

from checks import ALONE, HELLO, WEATHER, check, main, refused

base = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
client = anthropic.Anthropic(base_url=base, api_key=os.environ["OPENAI_API_KEY"], default_headers=ALONE, max_retries=0)
BRIEF = dict(model="default", max_tokens=16, extra_body={"temperature": 0})
TOOL = {"name": "get_weather", "description": "The weather of a city", "input_schema": WEATHER["function"]["parameters"]}


@check
def a_message_is_answered():
    made = client.messages.create(messages=HELLO, system=[{"type": "text", "text": "Be brief."}], **BRIEF)
    assert made.content[0].text and made.usage.output_tokens > 0, made
    assert made.stop_reason in ("end_turn", "max_tokens") and made._request_id, made


@check
def a_stream_is_put_together():
    with client.messages.stream(messages=HELLO, **BRIEF) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text and final.content[0].text == text, final
    assert final.usage.output_tokens > 0 and final.usage.input_tokens > 0, final.usage
    assert text == client.messages.create(messages=HELLO, **BRIEF).content[0].text


@check
def counts_agree_unless_parts_are_marked():
    counted = client.messages.count_tokens(model="default", messages=HELLO).input_tokens
    for _ in range(2):
        usage = client.messages.create(messages=HELLO, **BRIEF).usage
        assert (usage.input_tokens, usage.cache_read_input_tokens) == (counted, 0), usage
    marked = [{"role": "user", "content": [{"type": "text", "text": "Hello.", "cache_control": {"type": "ephemeral"}}]}]
    usage = client.messages.create(messages=marked, **BRIEF).usage
    assert usage.input_tokens + usage.cache_read_input_tokens == client.messages.count_tokens(model="default", messages=marked).input_tokens
    refused(anthropic.BadRequestError, lambda: client.messages.create(messages=HELLO, **(BRIEF | {"extra_body": {"temperature": 1.5}})))


@check
def models_are_listed():
    page = client.models.list()
    model = page.data[0]
    assert not page.has_more and page.first_id == model.id and model.type == "model", page
    assert client.models.retrieve("default").id == model.id and model.created_at.year > 2000, model


@check
def the_beta_answers_too():
    assert client.beta.messages.create(messages=HELLO, betas=["some-beta-2025-01-01"], **BRIEF).content[0].text


@check
def a_tool_is_used_and_answered():
    asked = dict(model="default", max_tokens=100, extra_body={"temperature": 0}, tools=[TOOL])
    question = {"role": "user", "content": "The weather in Rome?"}
    made = client.messages.create(messages=[question], tool_choice={"type": "any", "disable_parallel_tool_use": True}, **asked)
    use = next(block for block in made.content if block.type == "tool_use")
    assert made.stop_reason == "tool_use" and use.name == "get_weather" and "city" in use.input, made
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    history = [question, {"role": "assistant", "content": made.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(messages=history, tool_choice={"type": "none"}, **asked).content
    with client.messages.stream(messages=[question], tool_choice={"type": "tool", "name": "get_weather"}, **asked) as stream:
        streamed = stream.get_final_message()
    assert any(block.type == "tool_use" and "city" in block.input for block in streamed.content), streamed


@check
def a_tool_use_may_be_cut():
    asked = dict(model="default", extra_body={"temperature": 0}, tools=[TOOL], tool_choice={"type": "any"})
    asked |= dict(messages=[{"role": "user", "content": "The weather in Rome?"}])
    for most, used in ((4, False), (18, True)):
        made = client.messages.create(max_tokens=most, **asked)
        with client.messages.stream(max_tokens=most, **asked) as stream:
            streamed = stream.get_final_message()
        for message in (made, streamed):
            assert message.stop_reason == "max_tokens", message
            assert [block.input for block in message.content if block.type == "tool_use"] == [{}] * used, message
            assert not any(block.text for block in message.content if block.type == "text"), message


@check
def a_stop_sequence_is_named():
    whole = client.messages.create(messages=HELLO, **BRIEF).content[0].text
    stop = whole.split()[1][:3]
    made = client.messages.create(messages=HELLO, stop_sequences=[stop], **BRIEF)
    assert made.stop_reason == "stop_sequence" and made.stop_sequence == stop, made
    assert not made.content or stop not in made.content[0].text


@check
def tokens_are_counted():
    counted = client.messages.count_tokens(model="default", messages=HELLO).input_tokens
    usage = client.messages.create(messages=HELLO, **BRIEF).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0), (counted, usage)


@check
def mistakes_have_their_class():
    missing = refused(anthropic.NotFoundError, lambda: client.messages.create(messages=HELLO, **(BRIEF | dict(model="no-such-model"))))
    assert missing.body["error"]["type"] == "not_found_error", missing.body
    refused(anthropic.BadRequestError, lambda: client.messages.create(messages=[], **BRIEF))
    stranger = anthropic.Anthropic(base_url=base, api_key="hb-wrong", max_retries=0)
    refused(anthropic.AuthenticationError, lambda: stranger.messages.create(messages=HELLO, **BRIEF))


main()
