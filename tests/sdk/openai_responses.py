"""What openai's Python SDK sees of responses and conversations."""

import openai

from checks import ALONE, PERSON, WEATHER, check, main, refused

client = openai.OpenAI(default_headers=ALONE, max_retries=0)
BRIEF = dict(model="default", temperature=0, max_output_tokens=16)
WEATHER_TOOL = {"type": "function", "strict": True, **WEATHER["function"]}


@check
def a_text_is_answered_and_found_again():
    made = client.responses.create(input="Say hello.", instructions="Be brief.", metadata={"a": "b"}, **BRIEF)
    assert made.output_text and made.usage.output_tokens > 0 and made.status in ("completed", "incomplete"), made
    assert made.usage.input_tokens_details.cached_tokens >= 0
    assert client.responses.retrieve(made.id).output_text == made.output_text
    assert client.responses.input_items.list(made.id).data[0].content[0].text == "Say hello."
    client.responses.delete(made.id)
    assert "not found" in str(refused(openai.NotFoundError, lambda: client.responses.retrieve(made.id)))


@check
def a_stream_is_put_together():
    # Long enough that the model ends by itself: the SDK knows no other end of a stream.
    with client.responses.stream(input="Say hello.", **(BRIEF | dict(max_output_tokens=200))) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text and text == final.output_text, final
    assert events[0].type == "response.created" and events[-1].type in ("response.completed", "response.incomplete")


@check
def one_goes_on_from_another():
    first = client.responses.create(input="My name is Ada.", **BRIEF)
    second = client.responses.create(input="Hello again.", previous_response_id=first.id, **BRIEF)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    unkept = client.responses.create(input="Hi.", store=False, **BRIEF)
    error = refused(openai.BadRequestError, lambda: client.responses.create(input="x", previous_response_id=unkept.id, **BRIEF))
    assert error.param == "previous_response_id", error


@check
def a_function_is_called_and_answered():
    asked = BRIEF | dict(max_output_tokens=100)
    made = client.responses.create(input="The weather in Rome?", tools=[WEATHER_TOOL], tool_choice="required", **asked)
    call = next(item for item in made.output if item.type == "function_call")
    assert call.name == "get_weather" and "city" in call.arguments, made.output
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    answer = client.responses.create(input=[output], previous_response_id=made.id, **asked)
    assert answer.output, answer
    history = [{"role": "user", "content": "The weather in Rome?"}, *made.output, output]
    assert client.responses.create(input=history, **asked).output


@check
def a_call_may_be_cut():
    asked = dict(model="default", temperature=0, tools=[WEATHER_TOOL], input="The weather in Rome?", tool_choice="required")
    # Before there is a name there is no call; after that, half of one.
    for most, kind in ((4, "message"), (18, "function_call")):
        made = client.responses.create(max_output_tokens=most, **asked)
        assert made.status == "incomplete" and made.incomplete_details.reason == "max_output_tokens", made
        [item] = made.output
        assert item.type == kind and item.status == "incomplete" and not made.output_text, made.output
        with client.responses.stream(max_output_tokens=most, **asked) as stream:
            last = list(stream)[-1]
        assert last.type == "response.incomplete" and last.response.output[0].type == kind, last


@check
def a_format_is_parsed():
    import pydantic

    class Person(pydantic.BaseModel):
        name: str
        age: int

    asked = BRIEF | dict(max_output_tokens=200)
    made = client.responses.parse(input="Ada is 36 years old.", text_format=Person, **asked)
    assert made.status == "incomplete" or isinstance(made.output_parsed, Person), made
    raw = client.responses.with_raw_response.create(input="Say hello.", **BRIEF)
    assert raw.headers["x-request-id"] and raw.parse().output_text, raw.headers


@check
def a_format_is_kept():
    schema = {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}
    import json

    made = client.responses.create(input="Ada is 36.", text={"format": schema}, **(BRIEF | dict(max_output_tokens=100)))
    assert set(json.loads(made.output_text)) == {"name", "age"}, made.output_text


@check
def a_conversation_grows():
    conversation = client.conversations.create(metadata={"a": "b"}, items=[{"type": "message", "role": "user", "content": "Hi."}])
    client.responses.create(input="Say hello.", conversation=conversation.id, **BRIEF)
    items = client.conversations.items.list(conversation.id, order="asc").data
    assert [item.role for item in items] == ["user", "user", "assistant"], items
    assert client.conversations.update(conversation.id, metadata={"a": "c"}).metadata == {"a": "c"}
    assert client.conversations.delete(conversation.id).deleted


@check
def the_background_is_polled():
    made = client.responses.create(input="Say hello.", background=True, **BRIEF)
    while made.status in ("queued", "in_progress"):
        made = client.responses.retrieve(made.id)
    assert made.status in ("completed", "incomplete") and made.output_text, made
    assert [event.sequence_number for event in client.responses.retrieve(made.id, stream=True, starting_after=1)][0] == 2


@check
def tokens_are_counted():
    counted = client.responses.input_tokens.count(model="default", input="Say hello.")
    assert counted.input_tokens == client.responses.create(input="Say hello.", **BRIEF).usage.input_tokens


@check
def mistakes_have_their_status():
    error = refused(openai.BadRequestError, lambda: client.responses.create(input="x", **(BRIEF | dict(temperature=9))))
    assert error.param == "temperature"
    refused(openai.NotFoundError, lambda: client.responses.create(input="x", **(BRIEF | dict(model="no-such-model"))))


main()
