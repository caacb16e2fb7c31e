"""Work on a registry of OCI artifacts: oci.py OPERATION SETTINGS. The answer goes to a file, as JSON.

SETTINGS is a JSON file; the login comes from the environment. What is wrong with the registry is an answer too:
{"error": KIND, "text": ...}, whose text also goes to standard output.

A name is a tag of one repository: a dot stands for a slash, and two for a dot. A folder is an artifact with a layer for
each file, whose title is the file's path; a file of its own is an artifact with one layer.
"""

import hashlib
import io
import json
import os
import pathlib
import re
import sys
import tarfile
import time
import uuid

import requests
from oras.auth import utils
from oras.provider import Registry
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

PART = 1 << 20
TRIES = 6
# How long a tag that was written must have kept its digest. Every writer looks at the tag, and writes it, within that time.
SETTLE = 3.0
TITLE = "org.opencontainers.image.title"
UNPACK = "io.deis.oras.content.unpack"
REPLACES = "dev.millrace.replaces"
WRITER = "dev.millrace.writer"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MODEL = "application/vnd.millrace.model.v1"
STATE = "application/vnd.millrace.state.v1"
EMPTY = {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": "sha256:" + hashlib.sha256(b"{}").hexdigest(),
    "size": 2,
}
# Python's own list changes with its version, and an artifact's digest with the list.
TYPES = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
KINDS = {401: "denied", 403: "denied", 404: "missing"}


class Refused(Exception):
    """What a registry answers that is no success."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


class Patient(HTTPAdapter):
    """Requests that end."""

    def __init__(self, timeout, retries):
        super().__init__(max_retries=retries)
        self.timeout = timeout

    def send(self, *args, **kwargs):
        """Send with a limit of time."""
        return super().send(*args, **{**kwargs, "timeout": self.timeout})


class Client(Registry):
    """The library's client, which answers both kinds of challenge, once, and ends."""

    def __init__(self, settings, timeout=(10, 60), tries=4):
        super().__init__(insecure=settings["plain"])
        # All requests may be sent twice: what is written is known by its content.
        again = Retry(
            tries,
            backoff_factor=0.5,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=None,
            raise_on_status=False,
        )
        self.session.mount(f"{self.prefix}://", Patient(timeout, again))
        self.repository = self.get_container(settings["repository"])
        self.login = {}
        user, password = os.environ.get("REGISTRY_USER", ""), os.environ.get("REGISTRY_PASSWORD", "")
        self.basic = utils.get_basic_auth(user, password) if user and password else ""
        if self.basic:
            self.auth.set_basic_auth(user, password)

    def _answer(self, challenge):
        """Return the header that a challenge asks for; nothing where there is none to give."""
        if challenge.lower().startswith("basic"):
            return {"Authorization": f"Basic {self.basic}"} if self.basic else {}
        header = utils.parse_auth_header(challenge)
        token = self.auth.request_token(header) if header.realm else None
        return {"Authorization": f"Bearer {token}"} if token else {}

    def do_request(self, url, method="GET", data=None, headers=None, json=None, stream=False):
        """Send a request, and once more with the login that its answer asks for."""
        sent = {"data": data, "json": json, "stream": stream}
        answer = self.session.request(method, url, headers={**(headers or {}), **self.login}, **sent)
        if answer.status_code == 401:
            self.login = self._answer(answer.headers.get("WWW-Authenticate", ""))
            if self.login:
                if hasattr(data, "seek"):
                    data.seek(0)
                answer = self.session.request(method, url, headers={**(headers or {}), **self.login}, **sent)
        return answer

    def _check_200_response(self, response):
        if response.status_code not in (200, 201, 202, 206):
            text = " ".join(response.text[:300].split())
            raise Refused(
                KINDS.get(response.status_code, "broken"),
                f"{response.request.method} {response.url.partition('?')[0]}: {response.status_code} {response.reason} {text}".strip(),
            )

    def checked(self, url, method="GET", **kwargs):
        """Send a request that must succeed."""
        answer = self.do_request(url, method, **kwargs)
        self._check_200_response(answer)
        return answer

    def manifest_url(self, reference):
        """Return where the manifest of a tag or digest is."""
        return f"{self.prefix}://{self.repository.manifest_url(reference)}"

    def blob_url(self, digest):
        """Return where a blob is."""
        return f"{self.prefix}://{self.repository.get_blob_url(digest)}"

    def resolve(self, reference):
        """Return the digest and the bytes of a manifest; nothing where there is none."""
        index = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json"
        answer = self.do_request(self.manifest_url(reference), headers={"Accept": f"{MANIFEST}, {index}"})
        if answer.status_code == 404:
            return "", b""
        self._check_200_response(answer)
        digest = digest_of(answer.content)
        if reference.startswith("sha256:") and digest != reference:
            raise Refused("broken", f"the manifest {reference} has the digest {digest}")
        return digest, answer.content

    def push(self, file, size, digest):
        """Send a blob that is not there yet, from an open file."""
        if self.blob_exists({"digest": digest}, self.repository):
            return
        begun = self.checked(
            f"{self.prefix}://{self.repository.upload_blob_url()}", "POST", headers={"Content-Length": "0"}
        )
        where = self._get_location(begun, self.repository)
        where += ("&" if "?" in where else "?") + f"digest={digest}"
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        self.checked(where, "PUT", data=file if size else b"", headers=headers)

    def push_bytes(self, data):
        """Send a small blob, and return what a manifest says of it."""
        digest = digest_of(data)
        self.push(io.BytesIO(data), len(data), digest)
        return {"digest": digest, "size": len(data)}

    def tag(self, reference, manifest):
        """Put a manifest under a tag, or its digest."""
        self.checked(self.manifest_url(reference), "PUT", data=manifest, headers={"Content-Type": MANIFEST})

    def pull(self, digest, size, file=None):
        """Download a blob, and return the digest of what came; what breaks off is taken up where it did."""
        done, sum256, tries, whole = 0, hashlib.sha256(), 0, False
        while done < size or size == 0:
            try:
                headers = {"Range": f"bytes={done}-{size - 1}"} if done and not whole else {}
                with self.do_request(self.blob_url(digest), headers=headers, stream=True) as answer:
                    if headers and answer.status_code == 416:
                        whole = True
                        continue
                    self._check_200_response(answer)
                    if done and answer.status_code != 206:
                        # A registry that hands out blobs as a whole only.
                        done, sum256 = 0, hashlib.sha256()
                        if file:
                            file.seek(0)
                            file.truncate()
                    for chunk in answer.iter_content(PART):
                        if file:
                            file.write(chunk)
                        sum256.update(chunk)
                        done += len(chunk)
                if done < size:
                    raise requests.ConnectionError(f"{digest} was cut off after {done} of {size} bytes")
                break
            except requests.RequestException:
                tries += 1
                if tries == TRIES:
                    raise
                time.sleep(min(0.2 * 2**tries, 5))
        return "sha256:" + sum256.hexdigest()


def digest_of(data):
    """Return the digest of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tag_of(name):
    """Return the tag that stands for a name."""
    tag = name.replace(".", "..").replace("/", ".")
    if "/." in name or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", tag):
        raise ValueError(f"{name} makes no tag: a tag has at most 128 letters, digits and ._-")
    return tag


def name_of(tag):
    """Return the name that a tag stands for."""
    return re.sub(r"\.\.?", lambda found: "." if len(found[0]) == 2 else "/", tag)


def title(layer):
    """Return the path of the file that a layer is; empty where it has none."""
    return (layer.get("annotations") or {}).get(TITLE, "")


def layers(manifest):
    """Return the layers of a manifest."""
    content = json.loads(manifest)
    if "manifests" in content:
        raise Refused("unusable", "it is an index of several images, and not one artifact: name one by its digest")
    return content.get("layers") or []


def artifact(kind, files, annotations):
    """Return the bytes of a manifest. They depend on nothing but what is given."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": EMPTY,
        "layers": files,
    }
    if annotations:
        manifest["annotations"] = annotations
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def find(client, name):
    """Return the layer that a file is, and its version: the artifact's digest where the tag is the file's own."""
    parts = name.split("/")
    for length in range(len(parts), 0, -1):
        try:
            tag = tag_of("/".join(parts[:length]))
        except ValueError:
            continue
        digest, manifest = client.resolve(tag)
        if digest:
            wanted = "/".join(parts[length:]) or parts[-1]
            layer = next((layer for layer in layers(manifest) if title(layer) == wanted), None)
            return layer, digest if length == len(parts) or not layer else layer["digest"]
    return None, ""


def read(settings):
    """Return a file of text and its version."""
    client = Client(settings)
    layer, version = find(client, settings["name"])
    if layer is None:
        return {"data": None, "version": ""}
    data = client.checked(client.blob_url(layer["digest"])).content
    if digest_of(data) != layer["digest"]:
        return {"error": "corrupt", "name": settings["name"], "want": layer["digest"], "got": digest_of(data)}
    return {"data": data.decode(), "version": version}


def succeeded(client, digest, ours):
    """Report whether a manifest was written by somebody who had read ours."""
    for _ in range(20):
        _, manifest = client.resolve(digest)
        if not manifest:
            return False
        digest = (json.loads(manifest).get("annotations") or {}).get(REPLACES, "")
        if digest == ours:
            return True
        if not digest:
            return False
    return False


def write(settings):
    """Replace a file if its version still is the one given.

    The protocol has no conditional write. So a writer looks at the tag, writes, waits, and looks again (Fischer's mutual
    exclusion): of two at once, the one whose manifest was overwritten learns it, if both were quick.
    """
    client, name = Client(settings), settings["name"]
    tag, data = tag_of(name), settings["data"].encode()
    client.push_bytes(b"{}")
    layer = {**client.push_bytes(data), "mediaType": media_type(name), "annotations": {TITLE: name.rpartition("/")[2]}}
    # No two writes make the same manifest, whatever they write.
    manifest = artifact(STATE, [layer], {REPLACES: settings["version"], WRITER: uuid.uuid4().hex})
    ours = digest_of(manifest)
    quick = Client(settings, timeout=(SETTLE, SETTLE), tries=0)
    quick.login = client.login
    began = time.monotonic()
    if quick.resolve(tag)[0] != settings["version"]:
        return {"error": "changed"}
    quick.tag(tag, manifest)
    took = time.monotonic() - began
    time.sleep(SETTLE)
    now = client.resolve(tag)[0]
    if now != ours and not succeeded(client, now, ours):
        return {"error": "changed"}
    if took > SETTLE:
        text = f"it took {took:.0f} s to write {name}: another writer may not have noticed; look at it"
        return {"error": "broken", "text": text}
    return {}


def media_type(name):
    """Return the type of a file by its name."""
    return TYPES.get(pathlib.PurePath(name).suffix, "application/octet-stream")


def put(settings):
    """Write a folder as an artifact whose tag never moves, after all of it was read back by its digest."""
    client, root, prefix = Client(settings), pathlib.Path(settings["folder"]), settings["prefix"]
    files, tag = [], tag_of(prefix)
    client.push_bytes(b"{}")
    for name, want in sorted(settings["digests"].items()):
        size = (root / name).stat().st_size
        with (root / name).open("rb") as file:
            client.push(file, size, f"sha256:{want}")
        files.append(
            {"mediaType": media_type(name), "digest": f"sha256:{want}", "size": size, "annotations": {TITLE: name}}
        )
    manifest = artifact(MODEL, files, {})
    ours = digest_of(manifest)
    client.tag(ours, manifest)
    for layer in files:
        got = client.pull(layer["digest"], layer["size"])
        if got != layer["digest"]:
            return {"error": "corrupt", "name": f"{prefix}/{title(layer)}", "want": layer["digest"], "got": got}
    for wanted in (ours, tag):
        there = client.resolve(wanted)[0]
        if wanted == tag and not there:
            client.tag(tag, manifest)
            there = client.resolve(tag)[0]
        if there != ours:
            return {"error": "corrupt", "name": f"{prefix}, the tag {tag},", "want": ours, "got": there}
    return {}


def alias(settings):
    """Move a tag to a folder's artifact, which must be whole."""
    client = Client(settings)
    digest, manifest = client.resolve(tag_of(settings["prefix"]))
    if not digest:
        return {"error": "missing", "text": f"there is no {settings['prefix']}"}
    tag = tag_of(settings["name"])
    if client.resolve(tag)[0] == digest:
        return {}
    for layer in layers(manifest):
        if not client.blob_exists(layer, client.repository):
            return {
                "error": "corrupt",
                "name": f"{settings['prefix']}/{title(layer)}",
                "want": layer["digest"],
                "got": "",
            }
    client.tag(tag, manifest)
    there = client.resolve(tag)[0]
    if there != digest:
        return {"error": "corrupt", "name": f"the tag {tag}", "want": digest, "got": there}
    return {}


def entries(settings):
    """Return what lies right below a prefix."""
    client, prefix = Client(settings), settings["prefix"] + "/"
    try:
        tags = client.get_tags(client.repository)
    except Refused as refused:
        if refused.kind != "missing":
            raise
        tags = []
    names = {name[len(prefix) :].partition("/")[0] for name in map(name_of, tags) if name.startswith(prefix)}
    return {"names": sorted(names)}


def stat(settings):
    """Return the digest of an artifact, and its files; those that are wanted, if any are named."""
    client = Client(settings)
    reference = settings.get("reference") or tag_of(settings["prefix"])
    digest, manifest = client.resolve(reference)
    if not digest:
        if settings.get("reference"):
            return {"error": "missing", "text": f"there is no {reference}"}
        return {"version": "", "objects": []}
    wanted, found = settings.get("names"), []
    for layer in layers(manifest):
        folder = (layer.get("annotations") or {}).get(UNPACK) == "true"
        if title(layer) and (folder or not wanted or title(layer) in wanted):
            found.append({"name": title(layer), "size": layer["size"], "version": layer["digest"], "folder": folder})
    return {"version": digest, "objects": found}


def fetch(settings):
    """Download the files of an artifact."""
    client, out = Client(settings), pathlib.Path(settings["out"]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    for entry in settings["objects"]:
        target = (out / entry["name"]).resolve()
        if out not in target.parents:
            return {"error": "unusable", "text": f"the file {entry['name']} would lie outside of its folder"}
        target.parent.mkdir(parents=True, exist_ok=True)
        packed = target.with_name(target.name + ".packed") if entry.get("folder") else target
        with packed.open("wb") as file:
            got = client.pull(entry["version"], entry["size"], file)
        if got != entry["version"]:
            return {"error": "corrupt", "name": entry["name"], "want": entry["version"], "got": got}
        if entry.get("folder"):
            with tarfile.open(packed) as archive:
                archive.extractall(target.parent, filter="data")
            packed.unlink()
        print(f"{entry['name']}: {entry['size']} bytes", file=sys.stderr, flush=True)
    return {}


def main():
    """Do what is asked for, and answer."""
    settings = json.loads(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
    operations = {
        "read": read,
        "write": write,
        "put": put,
        "alias": alias,
        "list": entries,
        "stat": stat,
        "fetch": fetch,
    }
    try:
        answer = operations[sys.argv[1]](settings)
    except Refused as refused:
        answer = {"error": refused.kind, "text": str(refused)}
    except (requests.RequestException, OSError, ValueError, tarfile.TarError) as error:
        answer = {"error": "broken", "text": str(error)}
    pathlib.Path(settings["answer"]).write_text(json.dumps(answer), encoding="utf-8")
    print(answer.get("text", ""))
    if settings["strict"] and "error" in answer:
        raise SystemExit(1)


main()
