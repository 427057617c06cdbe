"""What the Python files of this folder share that speak plain HTTP."""

import http.client
import json
import urllib.parse

from checks import BASE, KEY

server = urllib.parse.urlsplit(BASE)
CHAT = "/v1/chat/completions"


def call(method, path, body=None, headers=None, key=KEY):
    connection = http.client.HTTPConnection(server.hostname, server.port, timeout=120)
    sent = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {}) | (headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    connection.request(method, path, body, sent)
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    kind = reply.headers.get("content-type", "")
    return reply.status, reply.headers, json.loads(text) if kind.startswith("application/json") else text.decode()


def refused(status, code, *arguments, **more):
    got, headers, body = call(*arguments, **more)
    assert got == status, (got, body)
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["code"] == code, body
    assert headers["x-request-id"]
    return error
