"""What Simon Willison's `llm` command sees, configured by the YAML file that its manual asks for."""

import os
import pathlib
import subprocess
import sys
import tempfile

from checks import BASE, KEY, check, main

home = pathlib.Path(tempfile.mkdtemp())
(home / "extra-openai-models.yaml").write_text(
    f"- model_id: habit\n  model_name: default\n  api_base: {BASE}\n  api_key_name: habit\n"
)
environment = os.environ | {"LLM_USER_PATH": str(home)}
llm = pathlib.Path(sys.executable).parent / "llm"


def run(*arguments, **more):
    return subprocess.run([llm, *arguments], env=environment, capture_output=True, text=True, timeout=120, **more)


def said(*arguments):
    done = run("-m", "habit", "--key", KEY, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@check
def a_prompt_is_answered():
    assert said("Say hello.", "-o", "max_tokens", "12", "-o", "temperature", "0")


@check
def a_prompt_is_answered_at_once():
    streamed = said("Say hello.", "-o", "max_tokens", "12", "-o", "temperature", "0", "-s", "Be brief.")
    whole = said("Say hello.", "--no-stream", "-o", "max_tokens", "12", "-o", "temperature", "0", "-s", "Be brief.")
    assert streamed and whole


@check
def a_conversation_goes_on():
    said("My name is Ann.", "-o", "max_tokens", "8")
    assert said("-c", "What did I say?", "-o", "max_tokens", "8")


@check
def a_wrong_key_is_told():
    done = run("-m", "habit", "--key", "hb-wrong", "hi")
    assert done.returncode != 0 and "API key" in done.stderr, done.stderr


main()
