"""What the Python files of this folder share: checks are functions, and a file runs all of its own."""

import os
import sys
import traceback

BASE = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]
HELLO = [{"role": "user", "content": "Say hello."}]
# Memory is off: the same request has the same prompt.
ALONE = {"X-Habit-Memory": "off"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
CHECKS = []


def check(function):
    """Marks a check."""
    CHECKS.append(function)
    return function


def refused(error, call):
    """The error that the call must meet."""
    try:
        call()
    except error as caught:
        return caught
    raise AssertionError(f"no {error.__name__}")


def main():
    """Runs the checks of this file, or those that are named on the command line."""
    failed = 0
    wanted = [one for one in CHECKS if not sys.argv[1:] or one.__name__ in sys.argv[1:]]
    for one in wanted:
        try:
            one()
            print("ok", one.__name__, flush=True)
        except Exception:
            failed += 1
            print("FAILED", one.__name__, flush=True)
            traceback.print_exc()
    print(f"{len(wanted) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
