"""Makes HTTP checks and prints what came of them, a JSON object a line."""

import http.client
import json
import os
import re
import string
import sys
import time
import urllib.error
import urllib.request


class Stay(urllib.request.HTTPRedirectHandler):
    """Takes a redirection for an answer."""

    def redirect_request(self, *args, **kwargs):
        return None


opener = urllib.request.build_opener(Stay, urllib.request.ProxyHandler({}))
LIMIT = 4 << 20
TOKEN = re.compile(r'\.?([^.\[\]]+)|\[(\d+)\]|\["([^"]*)"\]')
MISSING = object()


def hidden(text, names):
    for name in names:
        if os.environ.get(name):
            text = text.replace(os.environ[name], "***")
    return text


def look(value, path):
    """Return what stands at a path such as items[0].id, or MISSING."""
    at = 0
    while at < len(path):
        token = TOKEN.match(path, at)
        if not token:
            return MISSING
        at = token.end()
        key, index, quoted = token.groups()
        try:
            value = value[int(index)] if index is not None and isinstance(value, list) else value[quoted or key or index]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return value


def same(got, want):
    """JSON has one kind of number, and true is none of them."""
    if isinstance(got, bool) or isinstance(want, bool):
        return got is want
    return got == want


def ask(check):
    """Send the request; return the answer's status and body and the seconds it took, or what kept it from coming."""
    names = {name: os.environ.get(name, "") for name in check["secrets"]}
    headers = {k: string.Template(v).safe_substitute(names) for k, v in check["headers"].items()}
    headers.setdefault("User-Agent", "millrace-smoke")
    body = check["body"].encode() if check["body"] else None
    request = urllib.request.Request(check["url"], data=body, headers=headers, method=check["method"])
    began = time.monotonic()
    try:
        try:
            answer = opener.open(request, timeout=check["timeout"])
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read(LIMIT).decode("utf-8", "replace")
        return answer.status, text, time.monotonic() - began, None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            reason = "no answer within %g s" % check["timeout"]
        return 0, "", time.monotonic() - began, str(reason) or type(reason).__name__


def judge(check, status, body, seconds):
    """Yield a pair of what was expected and what came for all that is not as it must be."""
    if status != check["status"]:
        yield "status %d" % check["status"], "status %d" % status
    if check["contains"] and check["contains"] not in body:
        yield "a body that contains %r" % check["contains"], "a body of %d characters without it" % len(body)
    if check["matches"] and not re.search(check["matches"], body):
        yield "a body that matches %r" % check["matches"], "a body of %d characters that does not" % len(body)
    if check["json"]:
        try:
            value = json.loads(body)
        except ValueError:
            yield "a body in JSON", "a body that is none"
        else:
            for path, want in check["json"].items():
                got = look(value, path)
                if got is MISSING:
                    yield "%s = %s" % (path, json.dumps(want)), "nothing at %s" % path
                elif not same(got, want):
                    yield "%s = %s" % (path, json.dumps(want)), "%s = %s" % (path, json.dumps(got)[:200])
    if check["max_latency"] and seconds > check["max_latency"]:
        yield "an answer within %g ms" % (1000 * check["max_latency"]), "one after %.0f ms" % (1000 * seconds)


def run(check):
    status, body, seconds, broken = ask(check)
    if broken:
        wrong = [("status %d" % check["status"], "no answer: " + broken)]
    else:
        wrong = list(judge(check, status, body, seconds))
    secrets = check["secrets"]
    return {
        "name": check["name"],
        "passed": not wrong,
        "seconds": seconds,
        "wrong": [{"expected": hidden(e, secrets), "got": hidden(g, secrets)} for e, g in wrong],
        "body": hidden(body[:2000], secrets) if wrong else "",
    }


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    until, up = time.monotonic() + plan["startup"], False
    for check in plan["checks"]:
        tries = 1
        result = run(check)
        # The service may not be there at once. Once something has passed it is, and what fails then has failed.
        while not result["passed"] and not up and time.monotonic() < until:
            time.sleep(0.5)
            tries += 1
            result = run(check)
        up = up or result["passed"]
        result["tries"] = tries
        print(json.dumps(result), flush=True)
    print("-----END CHECKS-----", flush=True)


if __name__ == "__main__":
    sys.exit(main())
