"""Walks the HTTP token API with the package `requests`, as the API's own OpenAPI document describes it.

On stdin one JSON object: url, verify (a file with the server's certificate, or null), user, password, and two
scopes, granted and denied. On stdout another: how many answers came, which of the documented statuses did not,
and the tokens. Every answer must be one that the document has for that method and path, in the form that it has
for it.
"""

import json
import sys

import requests
import yaml

TYPES = {"string": str, "object": dict, "array": list, "boolean": bool}
UNKNOWN = "0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b13"


class Api:
    def __init__(self, wish):
        self.http = requests.Session()
        self.http.trust_env = False
        if wish["verify"]:
            self.http.verify = wish["verify"]
        document = self.http.get(wish["url"] + "/0.1/api/api.yml", timeout=20)
        assert document.status_code == 200, document.status_code
        assert document.headers["Content-Type"] == "application/x-yaml"
        self.document = yaml.safe_load(document.text)
        assert self.document["openapi"].startswith("3.0")
        self.bases = [wish["url"] + server["url"] for server in self.document["servers"]]
        self.answers = 0
        self.seen = set()
        self.tokens = []

    def resolve(self, node):
        """Follows one reference inside the document."""
        if "$ref" not in node:
            return node
        found = self.document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return found

    def fits(self, value, schema, where):
        schema = self.resolve(schema)
        if value is None:
            assert schema.get("nullable"), where
            return
        kind = schema.get("type")
        if kind == "integer":
            assert isinstance(value, int) and not isinstance(value, bool), where
        elif kind == "number":
            assert isinstance(value, (int, float)) and not isinstance(value, bool), where
        elif kind:
            assert isinstance(value, TYPES[kind]), where
        if "enum" in schema:
            assert value in schema["enum"], where
        for name, inner in schema.get("properties", {}).items():
            assert name in value, f"{where}: no {name}"
            self.fits(value[name], inner, f"{where}.{name}")
        for inner in value if kind == "array" else []:
            self.fits(inner, schema.get("items", {}), where)
        if isinstance(schema.get("additionalProperties"), dict):
            for inner in value.values():
                self.fits(inner, schema["additionalProperties"], where)

    def ask(self, method, path, status, token=None, base=0, **more):
        operation = self.document["paths"][path][method]
        url = self.bases[base] + path.replace("{token}", token or "")
        answer = self.http.request(method.upper(), url, timeout=20, **more)
        where = f"{method} {path}: {answer.status_code}"
        assert answer.status_code == status, f"{where}, not {status}"
        described = operation["responses"].get(str(status))
        assert described is not None, f"{where} is not in the document"
        content = self.resolve(described).get("content")
        if method == "head" or content is None:
            assert answer.content == b"", where
        elif "application/json" in content:
            assert answer.headers["Content-Type"] == "application/json", where
            self.fits(answer.json(), content["application/json"].get("schema", {}), where)
        self.answers += 1
        self.seen.add((method, path, str(status)))
        return answer

    def documented(self):
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                if method != "parameters":
                    for status in operation["responses"]:
                        yield (method, path, status)


def main():
    wish = json.load(sys.stdin)
    api = Api(wish)
    login = (wish["user"], wish["password"])
    one, scopes = "/token/{token}", "/token/{token}/scopes/check"

    def issue(status=200, auth=login, body=None, base=0):
        return api.ask("post", "/token", status, base=base, auth=auth, json=body if body is not None else {})

    for base in range(len(api.bases)):
        data = issue(body={"backend": "pam", "expiration": 60}, base=base).json()["data"]
        token = data["token"]
        api.tokens.append(token)
        assert data["acl"] == data["acls"] == ["confd.#"], data["acl"]
        assert api.ask("get", one, 200, token, base).json()["data"] == data
        api.ask("get", one, 200, token, base, params={"scope": wish["granted"]})
        api.ask("get", one, 403, token, base, params={"scope": wish["denied"]})
        api.ask("head", one, 204, token, base)
        api.ask("head", one, 204, token, base, params={"scope": wish["granted"]})
        api.ask("head", one, 403, token, base, params={"scope": wish["denied"]})
        asked = {"scopes": [wish["granted"], wish["denied"]]}
        told = api.ask("post", scopes, 200, token, base, json=asked).json()["scopes"]
        assert told == {wish["granted"]: True, wish["denied"]: False}, told
        api.ask("post", scopes, 400, token, base, json={"scopes": "all"})
        for _ in range(2):
            api.ask("delete", one, 200, token, base)
        for method in ("get", "head"):
            api.ask(method, one, 404, token, base)
        api.ask("post", scopes, 404, token, base, json=asked)
        api.ask("delete", one, 404, "malformed", base)
        api.ask("get", "/backends", 200, base=base)
        api.ask("get", "/api/api.yml", 200, base=base)
        api.ask("head", "/status", 200, base=base)

    texts = lambda answer: answer.json()["reason"]
    assert texts(issue(400, body={"expiration": 0})) == ["Invalid expiration"]
    issue(413, body={"x": "x" * 9000})
    api.ask("post", scopes, 413, UNKNOWN, json={"scopes": ["x" * 9000]})
    assert texts(issue(401, auth=None)) == ["Authentication Failed"]
    assert texts(issue(401, auth=(wish["user"], "not the password"))) == ["Authentication Failed"]
    assert texts(issue(401, body={"backend": "unknown"})) == ["Authentication Failed"]
    assert texts(api.ask("get", one, 404, UNKNOWN)) == ["No such token"]
    # As many tokens as one user may have, and one more.
    while True:
        answer = api.http.post(api.bases[0] + "/token", auth=login, json={}, timeout=20)
        if answer.status_code != 200:
            break
        api.tokens.append(answer.json()["data"]["token"])
        assert len(api.tokens) < 50
    issue(429)
    for token in api.tokens[len(api.bases) + 1:]:
        api.ask("delete", one, 200, token)
    kept = api.tokens[len(api.bases)]
    # Misses, until they are too many; a token that is one is told all the same.
    for _ in range(100):
        if api.http.head(f"{api.bases[0]}/token/{UNKNOWN}", timeout=20).status_code == 429:
            break
    api.ask("head", one, 429, UNKNOWN)
    assert int(api.ask("get", one, 429, UNKNOWN).headers["Retry-After"]) > 0
    api.ask("post", scopes, 429, UNKNOWN, json={"scopes": []})
    api.ask("head", one, 204, kept)
    api.ask("delete", one, 200, kept)
    missing = [list(status) for status in api.documented() if status not in api.seen]
    print(json.dumps({"answers": api.answers, "not provoked": missing, "tokens": api.tokens}))


main()
