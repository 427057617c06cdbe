"""Files and vector stores, with OpenAI's Python client: upload, poll, search, filters, batches, content, deletion."""

import io

import openai
from checks import check, main, refused

client = openai.OpenAI()
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


main()
