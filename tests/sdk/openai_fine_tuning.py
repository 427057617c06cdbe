"""Fine-tuning jobs with OpenAI's Python client, and feedback beside it. Nothing is trained to its end here: that takes minutes."""

import json
import time

import openai
from checks import HELLO, check, main, refused

client = openai.OpenAI(max_retries=0)
LINES = "\n".join(
    json.dumps({"messages": [{"role": "user", "content": f"Number {n}?"}, {"role": "assistant", "content": f"It is {n}."}]})
    for n in range(12)
)


def wait(job, ends):
    """Looks until the job has one of these states."""
    until = time.time() + 120
    while job.status not in ends and time.time() < until:
        time.sleep(0.2)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status in ends, job
    return job


@check
def a_job_is_made_seen_and_stopped():
    file = client.files.create(file=("train.jsonl", LINES.encode()), purpose="fine-tune")
    model = client.models.list().data[0].id
    job = client.fine_tuning.jobs.create(
        model=model,
        training_file=file.id,
        suffix="numbers",
        seed=3,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
        metadata={"of": "checks"},
    )
    assert job.object == "fine_tuning.job" and job.training_file == file.id and job.model == model, job
    assert job.hyperparameters.n_epochs == 1 and job.seed == 3 and job.method.type == "supervised", job
    assert job.id in [one.id for one in client.fine_tuning.jobs.list(limit=5)]
    events = client.fine_tuning.jobs.list_events(job.id).data
    assert events and events[0].object == "fine_tuning.job.event", events
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []
    stopped = client.fine_tuning.jobs.cancel(job.id)
    assert wait(stopped, ("cancelled", "failed")).fine_tuned_model is None


@check
def what_is_wrong_is_told():
    model = client.models.list().data[0].id
    few = client.files.create(file=("few.jsonl", LINES.splitlines()[0].encode()), purpose="fine-tune")
    refused(openai.BadRequestError, lambda: client.fine_tuning.jobs.create(model=model, training_file=few.id))
    refused(openai.BadRequestError, lambda: client.fine_tuning.jobs.create(model="gpt-none", training_file=few.id))
    refused(openai.NotFoundError, lambda: client.fine_tuning.jobs.create(model=model, training_file="file-none"))
    refused(openai.NotFoundError, lambda: client.fine_tuning.jobs.retrieve("ftjob-none"))


@check
def feedback_by_id_and_by_metadata():
    said = client.chat.completions.create(
        model=client.models.list().data[0].id, messages=HELLO, max_tokens=8, metadata={"conversation_id": "feedback"}
    )
    client.chat.completions.create(
        model=said.model,
        messages=[{"role": "user", "content": "And again."}],
        max_tokens=8,
        metadata={"conversation_id": "feedback", "habit_feedback": "good"},
    )
    given = client.post("/feedback", cast_to=object, body={"completion_id": said.id, "correction": "Hello!"})
    lineage = client.get(f"/learning/lineage/{given['id']}", cast_to=object)
    # What puts the reply right takes the place of the praise for it.
    assert lineage["example"]["answer"] == "Hello!" and lineage["example"]["from"] == [given["id"]], lineage
    examples = client.get("/learning/examples", cast_to=object)
    assert examples["total"] == 1 and examples["data"][0]["messages"][-1]["content"] == "Say hello.", examples



main()
