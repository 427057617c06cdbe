"""Files and vector stores, with OpenAI's Python client: upload, poll, search, filters, batches, content, deletion; and the
tool file_search on responses and chat completions, with citations."""

import io

import openai
from checks import WEATHER, check, main, refused

client = openai.OpenAI(max_retries=0)
HANDBOOK = b"# Handbook\n\nThe notice period is six weeks.\n\n# Parking\n\nThe garage opens at seven in the morning.\n"
CANTEEN = b"The canteen serves soup on Mondays and fish on Fridays."


@check
def files():
    kept = client.files.create(file=("handbook.md", HANDBOOK), purpose="assistants")
    assert kept.object == "file" and kept.bytes == len(HANDBOOK) and kept.filename == "handbook.md", kept
    assert client.files.content(kept.id).read() == HANDBOOK
    assert client.files.retrieve(kept.id).purpose == "assistants"
    assert kept.id in [file.id for file in client.files.list(purpose="assistants")]
    assert client.files.wait_for_processing(kept.id).status == "processed"
    assert client.files.delete(kept.id).deleted
    refused(openai.NotFoundError, lambda: client.files.retrieve(kept.id))
    refused(openai.BadRequestError, lambda: client.files.create(file=("a.txt", b"x"), purpose="spying"))


@check
def vector_stores():
    store = client.vector_stores.create(
        name="rules", metadata={"of": "acme"}, expires_after={"anchor": "last_active_at", "days": 7}
    )
    assert store.expires_at and store.status == "completed", store
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("handbook.md", HANDBOOK), attributes={"year": 2024}
    )
    assert file.status == "completed" and file.attributes == {"year": 2024}, file
    batch = client.vector_stores.file_batches.upload_and_poll(
        store.id, files=[("canteen.txt", io.BytesIO(CANTEEN)), ("broken.pdf", io.BytesIO(b"%PDF-1.7 no"))]
    )
    assert batch.status == "completed" and batch.file_counts.failed == 1 and batch.file_counts.completed == 1, batch
    listed = list(client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id))
    assert {file.status for file in listed} == {"completed", "failed"}, listed

    best = client.vector_stores.search(store.id, query="How long is the notice period?", max_num_results=1)
    assert "six weeks" in best.data[0].content[0].text and best.data[0].filename == "handbook.md", best
    assert 0.3 < best.data[0].score <= 1, best
    fish = client.vector_stores.search(store.id, query="When is there fish?")
    assert fish.data[0].filename == "canteen.txt", fish
    none = client.vector_stores.search(
        store.id, query="When is there fish?", filters={"type": "eq", "key": "year", "value": 1999}
    )
    assert none.data == [], none
    far = client.vector_stores.search(
        store.id, query="quantum chromodynamics of quarks", ranking_options={"score_threshold": 0.5}
    )
    assert far.data == [], far
    text = "".join(part.text for part in client.vector_stores.files.content(file.id, vector_store_id=store.id))
    assert "garage" in text, text
    changed = client.vector_stores.files.update(file.id, vector_store_id=store.id, attributes={"year": 2025})
    assert changed.attributes == {"year": 2025}, changed
    assert client.vector_stores.update(store.id, name="laws").name == "laws"
    assert client.vector_stores.retrieve(store.id).file_counts.total == 3
    assert client.vector_stores.files.delete(file.id, vector_store_id=store.id).deleted
    assert client.vector_stores.delete(store.id).deleted
    refused(openai.NotFoundError, lambda: client.vector_stores.search(store.id, query="fish"))



def a_store():
    store = client.vector_stores.create(name="rules")
    file = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("handbook.md", HANDBOOK), attributes={"year": 2024})
    assert file.status == "completed", file
    return store, file


QUESTION = "How long is the notice period?"
# Cited also where memory is off: the request names the store.
OFF = {"X-Habit-Memory": "off"}


@check
def responses_search_files_and_cite_them():
    store, file = a_store()
    tool = {"type": "file_search", "vector_store_ids": [store.id], "max_num_results": 1}
    asked = dict(model="default", input=QUESTION, tools=[tool], temperature=0, max_output_tokens=40, extra_headers=OFF)
    made = client.responses.create(include=["file_search_call.results"], **asked)
    search, message = made.output
    assert search.type == "file_search_call" and search.status == "completed" and search.queries == [QUESTION], search
    result = search.results[0]
    assert "six weeks" in result.text and result.file_id == file.id and result.filename == "handbook.md", result
    assert 0 < result.score <= 1 and result.attributes == {"year": 2024}, result
    [note] = message.content[0].annotations
    assert note.type == "file_citation" and note.file_id == file.id and note.filename == "handbook.md", note
    assert note.index == len(made.output_text), note
    assert "six" in made.output_text.lower(), made.output_text
    again = client.responses.retrieve(made.id)
    assert again.output == made.output, again
    # A history with a search in it goes on, and a search alone may be demanded.
    history = [{"role": "user", "content": QUESTION}, *made.output, {"role": "user", "content": "When does the garage open?"}]
    more = client.responses.create(**(asked | dict(input=history, tool_choice={"type": "file_search"})))
    assert more.output[0].results is None and more.output[0].queries == ["When does the garage open?"], more.output

    with client.responses.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    begin = ["response.created", "response.in_progress", "response.output_item.added"]
    steps = [f"response.file_search_call.{step}" for step in ("in_progress", "searching", "completed")]
    assert kinds[:7] == [*begin, *steps, "response.output_item.done"], kinds
    added = next(event for event in events if event.type == "response.output_text.annotation.added")
    assert added.annotation.file_id == file.id and added.annotation_index == 0 and added.output_index == 1, added
    assert kinds.index(added.type) < kinds.index("response.output_text.done")
    assert final.output[1].content[0].annotations[0].file_id == file.id, final
    missing = asked | dict(tools=[tool | {"vector_store_ids": ["vs_none"]}])
    assert "vs_none" in str(refused(openai.NotFoundError, lambda: client.responses.create(**missing)))


@check
def chats_search_files_and_cite_them():
    store, file = a_store()
    tool = {"type": "file_search", "vector_store_ids": [store.id]}
    messages = [{"role": "user", "content": QUESTION}]
    asked = dict(model="default", messages=messages, tools=[tool], temperature=0, max_tokens=40, extra_headers=OFF)
    whole = client.chat.completions.create(**asked).choices[0].message
    note = whole.annotations[0].to_dict()
    assert note["type"] == "file_citation" and note["file_id"] == file.id and note["filename"] == "handbook.md", note
    assert note["file_citation"]["file_id"] == file.id and note["index"] == len(whole.content), note
    assert "six" in whole.content.lower(), whole
    deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(stream=True, **asked)]
    assert [delta.annotations for delta in deltas if getattr(delta, "annotations", None)] == [[note]], deltas
    with client.chat.completions.stream(**(asked | dict(max_tokens=200))) as stream:
        final = stream.get_final_completion().choices[0].message
    assert final.annotations[0].to_dict()["file_id"] == file.id, final
    # Beside functions; and what no file fits is answered without one.
    both = client.chat.completions.create(**(asked | dict(tools=[tool, WEATHER], tool_choice="auto", n=2)))
    assert len(both.choices) == 2, both
    narrow = tool | {"filters": {"type": "eq", "key": "year", "value": 1999}}
    none = client.chat.completions.create(**(asked | dict(tools=[narrow])))
    assert not none.choices[0].message.annotations, none
    missing = asked | dict(tools=[tool | {"vector_store_ids": ["vs_none"]}])
    assert "vs_none" in str(refused(openai.NotFoundError, lambda: client.chat.completions.create(**missing)))
    unnamed = asked | dict(tools=[{"type": "file_search"}])
    assert refused(openai.BadRequestError, lambda: client.chat.completions.create(**unnamed)).param == "tools[0].vector_store_ids"


main()
