"""Connects text-generation-webui's own chat to Habit, so that what is said there is remembered.

Put this folder into the webui's `extensions` directory as `habit`, start the webui with `--extensions habit`, and set
HABIT_URL (http://127.0.0.1:8420 if unset) and HABIT_KEY in its environment. No model needs to be loaded in the webui.
"""

import json
import os
import urllib.error
import urllib.request

params = {
    "display_name": "Habit",
    "is_tab": False,
    "url": os.environ.get("HABIT_URL", "http://127.0.0.1:8420"),
    "key": os.environ.get("HABIT_KEY", ""),
    "model": os.environ.get("HABIT_MODEL", "default"),
}

# The webui's names of settings that Habit reads, and Habit's.
SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "max_new_tokens": "max_tokens",
    "seed": "seed",
}


def messages(question, state):
    """The conversation so far and the question, as chat messages."""
    found = []
    context = (state.get("context") or "").strip()
    if context:
        name1, name2 = state.get("name1") or "You", state.get("name2") or "Assistant"
        found.append({"role": "system", "content": context.replace("{{user}}", name1).replace("{{char}}", name2)})
    for pair in (state.get("history") or {}).get("internal") or []:
        said, replied = pair[0], pair[1]
        if replied and said and said != "<|BEGIN-VISIBLE-CHAT|>":
            found.append({"role": "user", "content": said})
        if replied:
            found.append({"role": "assistant", "content": replied})
    found.append({"role": "user", "content": question})
    return found


def request(question, state, stopping_strings):
    """The body of a chat completion."""
    body = {"model": params["model"], "messages": messages(question, state), "stream": True}
    for theirs, ours in SETTINGS.items():
        if state.get(theirs) is not None:
            body[ours] = state[theirs]
    if stopping_strings:
        body["stop"] = list(stopping_strings)
    return body


def custom_generate_reply(question, original_question, state, stopping_strings=None, is_chat=False, **_):
    """The webui's hook in the place of its own model: yields the whole reply so far, again and again."""
    text = original_question if is_chat else question
    body = json.dumps(request(text, state if is_chat else {**state, "history": None}, stopping_strings)).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {params['key']}"}
    call = urllib.request.Request(params["url"].rstrip("/") + "/v1/chat/completions", body, headers)
    reply = ""
    try:
        with urllib.request.urlopen(call) as response:
            for line in response:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    yield reply + f"\n[Habit: {event['error']['message']}]"
                    return
                for choice in event.get("choices", []):
                    reply += choice["delta"].get("content") or ""
                yield reply
    except urllib.error.HTTPError as error:
        yield f"[Habit: {json.loads(error.read())['error']['message']}]"
    except OSError as error:
        yield f"[Habit can't be reached at {params['url']}: {error}]"
