"""What tools written for text-generation-webui send: its fields on chat completions and completions, and its own
endpoints below /v1/internal."""

import json
import os

from checks import check, main
from plain import CHAT, call, refused

HERO = {
    "character": "Assistant",
    "messages": [{"role": "user", "content": "Who are you?"}],
    "max_tokens": 8,
    "temperature": 0,
}


def chat(**fields):
    status, _, body = call("POST", CHAT, {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8} | fields)
    assert status == 200, body
    return body


def prompt(**fields):
    messages = {"messages": [{"role": "user", "content": "Say hello."}]}
    status, _, body = call("POST", "/v1/internal/chat-prompt", messages | fields)
    assert status == 200, body
    return body["prompt"]


@check
def modes_differ_in_their_prompts():
    names = {"name1": "Ann", "name2": "Bot", "context": "Bot is a parrot."}
    instruct, dialogue, both = (prompt(mode=mode, **names) for mode in ("instruct", "chat", "chat-instruct"))
    assert "<|im_start|>user\nSay hello." in instruct and "parrot" not in instruct, instruct
    assert dialogue.endswith("Ann: Say hello.\nBot:") and "Bot is a parrot." in dialogue, dialogue
    assert both.endswith("<|im_start|>assistant\nBot:"), both
    assert "<|im_start|>" in both and "Bot is a parrot." in both and "Ann: Say hello." in both, both


@check
def other_names_of_the_names_work():
    assert prompt(mode="chat", user_name="Ann", bot_name="Bot") == prompt(mode="chat", name1="Ann", name2="Bot")


@check
def all_modes_answer_and_stay_in_their_role():
    for mode in ("instruct", "chat", "chat-instruct"):
        for stream in (False, True):
            body = chat(mode=mode, character="Assistant", name1="Ann", max_tokens=24, stream=stream, temperature=0)
            if not stream:
                text = body["choices"][0]["message"]["content"]
            else:
                events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
                text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
            assert text and "Ann:" not in text, (mode, text)


@check
def an_unknown_character_preset_or_mode_is_named():
    for field, mode in (("character", "chat"), ("preset", "chat"), ("instruction_template", "instruct")):
        error = refused(400, "invalid_value", "POST", CHAT, HERO | {"mode": mode, field: "../../nobody"})
        assert error["param"] == field, error
    assert refused(400, "invalid_value", "POST", CHAT, HERO | {"mode": "sing"})["param"] == "mode"


@check
def a_template_of_ones_own_makes_the_prompt():
    template = "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}[assistant]"
    assert prompt(instruction_template_str=template) == "[user] Say hello.\n[assistant]"
    assert "### Instruction:" in prompt(instruction_template="Alpaca")
    assert refused(400, "invalid_value", "POST", CHAT, HERO | {"instruction_template_str": "{% for %}"})["message"]


@check
def a_reply_is_continued():
    said = [{"role": "user", "content": "Count to nine."}, {"role": "assistant", "content": "One, two, three,"}]
    text = chat(messages=said, continue_=True, temperature=0)["choices"][0]["message"]["content"]
    assert text.startswith("One, two, three,") and len(text) > len("One, two, three,"), text


@check
def samplers_of_the_webui_are_taken():
    fields = {
        "preset": "Deterministic", "max_new_tokens": 4, "top_k": 20, "min_p": 0.05, "typical_p": 1, "tfs": 1, "top_a": 0,
        "repetition_penalty": 1.1, "repetition_penalty_range": 1024, "encoder_repetition_penalty": 1, "epsilon_cutoff": 0,
        "eta_cutoff": 0, "mirostat_mode": 0, "mirostat_tau": 5, "mirostat_eta": 0.1, "dry_multiplier": 0, "smoothing_factor": 0,
        "guidance_scale": 1, "negative_prompt": "", "xtc_threshold": 0.1, "xtc_probability": 0, "sampler_priority": ["top_k"],
        "custom_token_bans": "", "ban_eos_token": False, "add_bos_token": True, "skip_special_tokens": True, "seed": -1,
        "do_sample": True, "truncation_length": 2048, "auto_max_new_tokens": False, "max_tokens_second": 0,
        "prompt_lookup_num_tokens": 0, "dynamic_temperature": False, "temperature_last": False, "grammar_string": "",
        "enable_thinking": False, "user_bio": "Ann likes tea.", "greeting": "Hello!",
    }
    body = call("POST", CHAT, {"messages": [{"role": "user", "content": "hi"}]} | fields)
    assert body[0] == 200 and body[2]["usage"]["completion_tokens"] <= 4, body


@check
def one_seed_is_one_text_and_zero_is_a_seed():
    def text(seed):
        reply = chat(seed=seed, temperature=1.5, max_tokens=16)
        return reply["choices"][0]["message"]["content"]

    assert text(0) == text(0) and len({text(-1) for _ in range(4)}) > 1


@check
def completions_take_its_fields_too():
    body = {"prompt": "Once upon a time", "max_tokens": 8, "seed": -1, "preset": "Creative", "repetition_penalty": 1.1}
    status, _, reply = call("POST", "/v1/completions", body)
    assert status == 200 and reply["choices"][0]["text"], reply
    body = {"prompt": "Once", "preset": "Deterministic", "max_new_tokens": 3}
    assert call("POST", "/v1/completions", body)[2]["usage"]["completion_tokens"] == 3
    assert refused(400, "invalid_value", "POST", "/v1/completions", body | {"preset": "../../nobody"})["param"] == "preset"


@check
def its_own_endpoints_answer():
    encoded = call("POST", "/v1/internal/encode", {"text": "Hello, wörld 🦀"})[2]
    assert encoded["length"] == len(encoded["tokens"])
    assert call("POST", "/v1/internal/decode", {"tokens": encoded["tokens"]})[2] == {"text": "Hello, wörld 🦀"}
    assert call("POST", "/v1/internal/token-count", {"text": "Hello, wörld 🦀"})[2]["length"] == encoded["length"]
    logits = call("POST", "/v1/internal/logits", {"prompt": "The capital of France is", "top_logits": 5})[2]["logits"]
    assert len(logits) == 5 and 0 < sum(logits.values()) <= 1 and " Paris" in logits, logits
    many = call("POST", "/v1/internal/logits", {"prompt": "The capital of France is"})[2]["logits"]
    assert 40 < len(many) <= 50 and list(many.values()) == sorted(many.values(), reverse=True), many
    assert "not the model's" in refused(400, "invalid_value", "POST", "/v1/internal/decode", {"tokens": [1 << 30]})["message"]
    assert call("GET", "/v1/internal/health")[2]["status"] == "ok"
    admin = os.environ["HABIT_ADMIN_KEY"]
    info = call("GET", "/v1/internal/model/info")[2]
    names = call("GET", "/v1/internal/model/list", key=admin)[2]["model_names"]
    assert len(set(names)) == len(names), names
    assert info["model_name"] in names, info
    assert call("GET", "/v1/internal/model/list")[0] == 403
    assert call("GET", "/v1/internal/lora/list")[2] == {"lora_names": []}
    assert call("POST", "/v1/internal/stop-generation", {})[0] == 200


main()
