"""Asks a Prometheus server the queries of a file and prints its answers, a JSON object a line."""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with open(sys.argv[1], encoding="utf-8") as file:
    plan = json.load(file)
for query in plan["queries"]:
    url = plan["url"].rstrip("/") + "/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with opener.open(url, timeout=20) as answer:
            body, broken = answer.read().decode("utf-8", "replace"), ""
    except urllib.error.HTTPError as error:
        body, broken = error.read().decode("utf-8", "replace"), ""
    except OSError as error:
        body, broken = "", str(getattr(error, "reason", error))
    print(json.dumps({"query": query, "body": body, "broken": broken}), flush=True)
print("-----END ANSWERS-----", flush=True)
