"""Work on an object store: bucket.py OPERATION SETTINGS. The answer goes to a file, as JSON.

SETTINGS is a JSON file; credentials come from the environment, by the names that the clouds' own tools use. What is
wrong with the store is an answer too: {"error": KIND, "text": ...}, whose text also goes to standard output.
"""

import hashlib
import json
import os
import pathlib
import sys
import time
from datetime import timedelta

import obstore
from obstore import exceptions
from obstore.store import GCSStore, HTTPStore, from_url

PART = 8 << 20
TRIES = 6
# The client raises Python's own error, too.
MISSING = (exceptions.NotFoundError, FileNotFoundError)
KINDS = (
    (MISSING, "missing"),
    (exceptions.PreconditionError, "changed"),
    (exceptions.AlreadyExistsError, "changed"),
    (exceptions.PermissionDeniedError, "denied"),
    (exceptions.UnauthenticatedError, "denied"),
)
# The names by which environments know what the store's client calls otherwise.
VARIABLES = {
    "s3": {
        "AWS_ACCESS_KEY_ID": "access_key_id",
        "AWS_SECRET_ACCESS_KEY": "secret_access_key",
        "AWS_SESSION_TOKEN": "token",
    },
    "gs": {"GOOGLE_SERVICE_ACCOUNT_KEY": "service_account_key"},
    "az": {
        "AZURE_STORAGE_ACCOUNT_NAME": "account_name",
        "AZURE_STORAGE_ACCOUNT_KEY": "account_key",
        "AZURE_STORAGE_SAS_TOKEN": "sas_key",
    },
}


# What the store's client calls the address of the service.
ENDPOINTS = {"s3": "endpoint", "gs": "base_url", "az": "endpoint"}
# Without one of these there is nothing to sign requests with.
KEYS = {"access_key_id", "service_account_key", "account_key", "sas_key"}


def endpoint_of(settings, config):
    """Return the address of the service; nothing where it is the cloud's own."""
    if settings.get("endpoint") or "service_account_key" not in config:
        return settings.get("endpoint") or ""
    try:
        # Not one of Google's own fields: the client takes it from there.
        return json.loads(config["service_account_key"]).get("gcs_base_url") or ""
    except (AttributeError, ValueError):
        # The error may quote the key, and is not passed on.
        raise ValueError("GOOGLE_SERVICE_ACCOUNT_KEY is no service account's key: it must be the text of its JSON file") from None


def connect(settings):
    """Return the store of the settings."""
    url = settings["url"]
    scheme = url.partition("://")[0]
    config = {key: os.environ[name] for name, key in VARIABLES.get(scheme, {}).items() if os.environ.get(name)}
    endpoint = endpoint_of(settings, config)
    if scheme == "s3":
        config["region"] = settings.get("region") or "us-east-1"
    if not KEYS & config.keys():
        config["skip_signature"] = True
    if endpoint and scheme in ENDPOINTS:
        config[ENDPOINTS[scheme]] = endpoint
    options = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}
    if (endpoint or url).startswith("http://"):
        options["allow_http"] = True
    backoff = {"base": 2, "init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=2)}
    retries = {"max_retries": 3, "backoff": backoff, "retry_timeout": timedelta(seconds=60)}
    if scheme in ("http", "https"):
        return from_url(url, client_options=options, retry_config=retries)
    return from_url(url, config=config, client_options=options, retry_config=retries)


def sha256(store, name):
    """Return the SHA-256 of an object, read back in parts; nothing where there is none."""
    digest = hashlib.sha256()
    try:
        for chunk in obstore.get(store, name).stream(min_chunk_size=PART):
            digest.update(chunk)
    except MISSING:
        return ""
    return digest.hexdigest()


def token(store):
    """Name what conditional writes go by: with Google the generation, with the others the entity tag."""
    return "version" if isinstance(store, GCSStore) else "e_tag"


def read(store, settings):
    """Return an object of text and its version."""
    try:
        got = obstore.get(store, settings["name"])
        return {"data": bytes(got.bytes()).decode(), "version": got.meta[token(store)]}
    except MISSING:
        return {"data": None, "version": ""}


def write(store, settings):
    """Replace an object if its version still is the one given."""
    version = settings["version"]
    mode = {token(store): version} if version else "create"
    obstore.put(store, settings["name"], settings["data"].encode(), mode=mode, use_multipart=False)
    return {}


def put(store, settings):
    """Write files that are not there yet, and read all of them back."""
    root, prefix = pathlib.Path(settings["folder"]), settings["prefix"]
    # The list of what belongs together goes last: where it lies, the rest lies too.
    for name, want in sorted(settings["digests"].items(), key=lambda item: (item[0] == "manifest.json", item)):
        if sha256(store, f"{prefix}/{name}") != want:
            obstore.put(store, f"{prefix}/{name}", root / name)
    for name, want in sorted(settings["digests"].items()):
        got = sha256(store, f"{prefix}/{name}")
        if got != want:
            return {"error": "corrupt", "name": f"{prefix}/{name}", "want": want, "got": got}
    return {}


def entries(store, settings):
    """Return what lies right below a prefix."""
    prefix = settings["prefix"]
    found = obstore.list_with_delimiter(store, prefix)
    paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
    return {"names": sorted(path.rstrip("/").rpartition("/")[2] for path in paths)}


def ask_for_the_bucket(store):
    """Raise where the bucket itself is missing: of an object that is missing, a store does not say which of the two is."""
    if isinstance(store, HTTPStore):
        return
    try:
        next(iter(obstore.list(store, chunk_size=1)), None)
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
        # Who may read objects need not be allowed to list them.
        return


def stat(store, settings):
    """Return what tells the present content of objects from any other; missing ones are left out."""
    found = []
    names = settings.get("names")
    if names is None:
        names = sorted(entry["path"] for part in obstore.list(store, settings["prefix"]) for entry in part)
    for name in names:
        try:
            meta = obstore.head(store, name)
        except MISSING:
            continue
        found.append({"name": name, "size": meta["size"], "version": meta["e_tag"] or str(meta["last_modified"])})
    if not found and names:
        ask_for_the_bucket(store)
    return {"objects": found}


def sign(store, settings):
    """Write addresses to a file that let who has them do one thing with one object each, for some time."""
    urls = obstore.sign(store, settings["method"], settings["names"], timedelta(seconds=settings["seconds"]))
    # They have the account's key in them, which the engine blots out of what is printed.
    pathlib.Path(settings["out"]).write_text(json.dumps(urls), encoding="utf-8")
    return {}


def told(name, done, size):
    """Say how far a download is."""
    print(f"{name}: {done * 100 // max(size, 1)} % of {size} bytes", file=sys.stderr, flush=True)


def in_parts(store, name, size, file):
    """Download an object in parts, each tried several times; return its digest."""
    digest, done, tries = hashlib.sha256(), 0, 0
    while done < size:
        try:
            part = bytes(obstore.get_range(store, name, start=done, end=min(size, done + PART)))
            if not part:
                raise OSError("nothing came")
        except (exceptions.BaseError, OSError) as error:
            tries += 1
            if isinstance(error, (*MISSING, exceptions.NotSupportedError)) or tries == TRIES:
                raise
            time.sleep(min(0.2 * 2**tries, 5))
            continue
        file.write(part)
        digest.update(part)
        done += len(part)
        told(name, done, size)
    return digest


def as_a_whole(store, name, size, file):
    """Download an object in one go; return its digest."""
    for tries in range(1, TRIES + 1):
        digest, done = hashlib.sha256(), 0
        file.seek(0)
        file.truncate()
        try:
            for chunk in obstore.get(store, name).stream(min_chunk_size=PART):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
            if done == size:
                return digest
            raise OSError(f"{name} was cut off after {done} of {size} bytes")
        except (exceptions.BaseError, OSError) as error:
            if isinstance(error, MISSING) or tries == TRIES:
                raise
            time.sleep(min(0.2 * 2**tries, 5))
    raise OSError(f"{name} could not be downloaded")


def fetch(store, settings):
    """Download objects in parts; a part that breaks off is taken up where it did."""
    out, skip = pathlib.Path(settings["out"]), settings.get("strip", "")
    for entry in settings["objects"]:
        name, size = entry["name"], entry["size"]
        target = out / name.removeprefix(skip).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            try:
                digest = in_parts(store, name, size, file)
            except exceptions.NotSupportedError:
                # A web server that hands out files as a whole only.
                digest = as_a_whole(store, name, size, file)
        try:
            want = bytes(obstore.get(store, name + ".sha256").bytes()).decode("ascii", "replace").split()
        except (*MISSING, exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
            # Amazon refuses what is not there to who may not list the bucket.
            want = []
        if want and want[0] != digest.hexdigest():
            return {"error": "corrupt", "name": name, "want": want[0], "got": digest.hexdigest()}
        now = obstore.head(store, name)
        if now["size"] != size or (now["e_tag"] or str(now["last_modified"])) != entry["version"]:
            return {"error": "moved", "text": f"{name} has changed while it was downloaded"}
    return {}


def main():
    """Do what is asked for, and answer."""
    settings = json.loads(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
    operations = {"read": read, "write": write, "put": put, "list": entries, "stat": stat, "fetch": fetch}
    operations["sign"] = sign
    try:
        answer = operations[sys.argv[1]](connect(settings), settings)
    except (exceptions.BaseError, OSError, ValueError) as error:
        kind = next((kind for of, kind in KINDS if isinstance(error, of)), "broken")
        answer = {"error": kind, "text": str(error)}
    pathlib.Path(settings["answer"]).write_text(json.dumps(answer), encoding="utf-8")
    print(answer.get("text", ""))
    if settings["strict"] and "error" in answer:
        raise SystemExit(1)


main()
