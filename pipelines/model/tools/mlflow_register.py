"""Register a version of a model in MLflow: mlflow_register.py SETTINGS FOLDER.

The folder is the version's, with its manifest.json. The answer goes to standard output, as JSON; what is wrong with the
server is an answer too: {"error": KIND, "text": ...}. What is there already is not written again.
"""

import contextlib
import hashlib
import json
import pathlib
import sys
import tempfile
import time

import requests
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

TAG = "millrace.version"
ALIAS = "champion"


class CorruptError(Exception):
    """A file that the server holds is not the one that it was sent."""


def made(make, *args):
    """Make something that another run may make at the same time."""
    try:
        return make(*args)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return None


def experiment(client, name):
    """Return the experiment that a model's runs belong to."""
    found = client.get_experiment_by_name(name)
    if found is None:
        made(client.create_experiment, name)
        found = client.get_experiment_by_name(name)
    return found.experiment_id


def existing(client, name, version):
    """Return the version of the registered model that was made of ours; nothing where there is none."""
    found = [v for v in client.search_model_versions(f"name='{name}'") if v.tags.get(TAG) == version]
    return min(found, key=lambda v: int(v.version), default=None)


def read_back(server, uri, digests):
    """Check that the server holds the files that it was sent."""
    with tempfile.TemporaryDirectory() as folder:
        there = pathlib.Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=server))
        for name, want in digests.items():
            file = there / name
            if not file.is_file():
                raise CorruptError(f"{name} is missing after it was uploaded")
            with file.open("rb") as opened:
                got = hashlib.file_digest(opened, "sha256").hexdigest()
            if got != want:
                raise CorruptError(f"{name} has the SHA-256 {got}, and not {want}")


def upload(client, name, version, manifest, folder):
    """Make a run with all that belongs to a version, read it back, and make a version of the registered model of it."""
    tags = {TAG: version, "mlflow.source.git.commit": manifest["commit"], "millrace.data": manifest["data"]}
    run = client.create_run(experiment(client, name), tags=tags, run_name=version.removeprefix("sha256:")[:12])
    now = int(time.time() * 1000)
    params = {**manifest["parameters"], "seed": manifest["seed"]}
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(key, value, now, 0) for key, value in sorted(manifest["metrics"].items())],
        params=[Param(key, str(value)) for key, value in sorted(params.items())],
    )
    client.log_artifacts(run.info.run_id, str(folder))
    digests = {file: entry["sha256"] for file, entry in manifest["files"].items()}
    read_back(client.tracking_uri, run.info.artifact_uri, {**digests, "manifest.json": version.removeprefix("sha256:")})
    client.set_terminated(run.info.run_id)
    made(client.create_registered_model, name)
    return client.create_model_version(name, run.info.artifact_uri, run.info.run_id, tags=tags)


def register(settings, folder):
    """Register, and move the alias after that."""
    client, name, version = MlflowClient(settings["url"]), settings["name"], settings["version"]
    found = existing(client, name, version)
    created = found is None
    if created:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        found = upload(client, name, version, manifest, folder)
    if settings["champion"]:
        client.set_registered_model_alias(name, ALIAS, found.version)
        there = client.get_model_version_by_alias(name, ALIAS).version
        if str(there) != str(found.version):
            raise CorruptError(f"the alias {ALIAS} is version {there} after it was moved to {found.version}")
    return {"version": str(found.version), "created": created}


def main():
    """Do it, and answer."""
    settings = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        # The library tells people there where to look.
        with contextlib.redirect_stdout(sys.stderr):
            answer = register(settings, pathlib.Path(sys.argv[2]))
    except CorruptError as error:
        answer = {"error": "corrupt", "text": str(error)}
    except (MlflowException, requests.RequestException, OSError) as error:
        text = " ".join(str(error).split())
        # An answer in JSON has no status in its text.
        status = error.get_http_status_code() if isinstance(error, MlflowException) else None
        said = any(f"error code {code}" in text or f"{code} Client Error" in text for code in (401, 403))
        denied = said or status in (401, 403)
        answer = {"error": "denied" if denied else "broken", "text": text[:400]}
    json.dump(answer, sys.stdout)


main()
