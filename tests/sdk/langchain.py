"""What langchain-openai sees."""

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

from checks import ALONE, check, main

chat = ChatOpenAI(model="default", temperature=0, max_tokens=24, default_headers=ALONE, stream_usage=True)


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@check
def a_chat_answers():
    reply = chat.invoke("Say hello.")
    assert reply.content and reply.usage_metadata["total_tokens"] > 0
    assert reply.response_metadata["finish_reason"] in ("stop", "length")


@check
def a_chat_streams_with_usage():
    whole = None
    for chunk in chat.stream("Say hello."):
        whole = chunk if whole is None else whole + chunk
    assert whole.content == chat.invoke("Say hello.").content
    assert whole.usage_metadata["output_tokens"] > 0


@check
def a_batch_answers_in_order():
    assert len(chat.batch(["Say one.", "Say two.", "Say three."])) == 3


@check
def tools_are_bound_and_called():
    bound = ChatOpenAI(model="default", temperature=0, max_tokens=80, default_headers=ALONE).bind_tools([add], tool_choice="add")
    question = HumanMessage("What is 2 plus 3?")
    call = bound.invoke([question])
    assert call.tool_calls[0]["name"] == "add" and isinstance(call.tool_calls[0]["args"]["a"], int), call
    answer = chat.bind_tools([add], tool_choice="none").invoke([question, call, ToolMessage("5", tool_call_id=call.tool_calls[0]["id"])])
    assert isinstance(answer, AIMessage)


@check
def structured_output_is_the_class():
    model = ChatOpenAI(model="default", temperature=0, max_tokens=120, default_headers=ALONE)
    for method in ("json_schema", "function_calling"):
        person = model.with_structured_output(Person, method=method).invoke("Ann is 30 years old.")
        assert isinstance(person, Person), (method, person)


@check
def a_raw_model_goes_on():
    assert OpenAI(model="default", temperature=0, max_tokens=4).invoke("One, two, three,")


@check
def documents_and_queries_are_embedded():
    embeddings = OpenAIEmbeddings(model="all-minilm-l6-v2", check_embedding_ctx_length=False)
    one, two = embeddings.embed_documents(["a dog", "a cat"])
    assert len(one) == len(two) == len(embeddings.embed_query("a pet")) == 384


main()
