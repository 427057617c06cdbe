"""Schemathesis: requests made from the server's own description of its API, right and wrong ones. No reply may be a
5xx, or have a status, a content type or a shape that the description does not allow.

It runs last, and is told to keep replies short: what is looked at here is not the model.
"""

import os
import pathlib
import subprocess
import sys

import schemathesis

from checks import BASE, KEY

# Asking for a whole context of text would take minutes.
SHORT = {"/v1/chat/completions": "max_tokens", "/v1/completions": "max_tokens", "/v1/messages": "max_tokens",
         "/v1/responses": "max_output_tokens"}
MOST_TOKENS = 4
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"


@schemathesis.hook
def map_body(context, body):
    """Keeps replies short and few."""
    limit = SHORT.get(context.operation.path)
    if limit and isinstance(body, dict):
        asked = body.get(limit)
        if asked is None or (isinstance(asked, (int, float)) and asked > MOST_TOKENS):
            body[limit] = MOST_TOKENS
        body.pop("max_completion_tokens", None)
        for many in ("n", "best_of"):
            if isinstance(body.get(many), (int, float)) and body[many] > 2:
                body[many] = 2
    return body


# What only an admin's key may do; kept apart because keys can be revoked.
ADMIN = "^/v1/(admin|keys|reindex)"


def fuzz(key, *options):
    server = BASE.removesuffix("/v1")
    here = pathlib.Path(__file__)
    command = [
        pathlib.Path(sys.executable).parent / "schemathesis", "run", server + "/openapi.yaml", "--url", server,
        "--header", f"Authorization: Bearer {key}", "--checks", CHECKS, "--max-examples", os.environ.get("HABIT_FUZZ", "20"),
        "--request-timeout", "120", "--suppress-health-check", "all", "--continue-on-failure", "--no-color",
        "--generation-deterministic", *options, *sys.argv[1:],
    ]
    hooks = {"SCHEMATHESIS_HOOKS": here.stem, "PYTHONPATH": str(here.parent)}
    return subprocess.run(command, env=os.environ | hooks, cwd="/tmp").returncode


def main():
    users = fuzz(KEY, "--exclude-path-regex", ADMIN)
    admins = fuzz(os.environ["HABIT_ADMIN_KEY"], "--include-path-regex", ADMIN, "--phases", "examples,coverage,fuzzing")
    sys.exit(users or admins)


if __name__ == "__main__":
    main()
