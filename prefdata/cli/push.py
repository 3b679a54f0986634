"""`prefdata push`: an export folder to the Hugging Face Hub, private unless asked otherwise."""

from __future__ import annotations

import hashlib
import json as jsons
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from prefdata.cli.options import AsJson
from prefdata.cli.show import Screen, size
from prefdata.core.errors import BadValue, NeedsExtra, PrefdataError

_REPO = re.compile(r"[\w.-]+/[\w.-]+")


def push(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="A folder that an export step wrote.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Where to: owner/name of a dataset.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files and send nothing.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    json: AsJson = False,
) -> None:
    """Upload an export to the Hugging Face Hub.

    As a dataset, private unless --public is given, with the token in HF_TOKEN.

    Example:  prefdata push out/dpo me/my-preferences --dry-run
    """
    screen = Screen(json)
    if not _REPO.fullmatch(repo):
        raise BadValue("REPO", repo, "owner/name")
    files = listed_files(export)
    if not dry_run:
        url = _upload(export, repo, sorted(files), public)
    if json:
        screen.data({"export": str(export), "repo": repo, "private": not public, "files": files, "sent": not dry_run})
        return
    screen.table([(name, size(count)) for name, count in files.items()], ("file", "size"))
    seen = "public" if public else "private"
    if dry_run:
        screen.line(f"nothing sent: {len(files)} files, {size(sum(files.values()))}, would go to the {seen} dataset {repo}")
        screen.next(f"prefdata push {export} {repo}" + (" --public" if public else ""))
        return
    screen.line(f"sent {len(files)} files, {size(sum(files.values()))}, to the {seen} dataset {url}")
    screen.next(f"python -c \"from datasets import load_dataset; print(load_dataset('{repo}'))\"")


def listed_files(folder: Path) -> dict[str, int]:
    """What the manifest names, with sizes, and the manifest itself; each must be the file that was exported."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise PrefdataError(
            f"{str(folder)!r} has no manifest.json, so it is no export of prefdata; make one with  prefdata export dpo --out DIR."
        )
    try:
        hashes: dict[str, str] = jsons.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise PrefdataError(f"{manifest} cannot be read ({error}); export again.") from None
    for name, digest in hashes.items():
        path = folder / name
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            raise PrefdataError(f"{path} is listed in manifest.json and missing; export again.")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise PrefdataError(f"{path} is not the file that was exported (it changed since); export again.")
    return {name: (folder / name).stat().st_size for name in (*sorted(hashes), "manifest.json")}


def _upload(folder: Path, repo: str, names: list[str], public: bool) -> str:
    try:
        import huggingface_hub as hub
    except ImportError:
        raise NeedsExtra("push", "all") from None
    api = hub.HfApi()
    try:
        api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
        if not public and not api.repo_info(repo, repo_type="dataset").private:
            raise PrefdataError(f"the dataset {repo} is public already; add --public to send this there, or choose another name.")
        api.upload_folder(
            repo_id=repo, repo_type="dataset", folder_path=folder, allow_patterns=names, commit_message="Upload with prefdata"
        )
    except PrefdataError:
        raise
    except Exception as error:  # the Hub client raises its own, the transport's and the system's errors
        raise PrefdataError(_reason(error, repo)) from error
    return f"https://huggingface.co/datasets/{repo}"


def _reason(error: Any, repo: str) -> str:
    """What the Hub's client means, in one sentence; never with the token."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    name = type(error).__name__
    if status == 401 or name == "LocalTokenNotFoundError":
        return "the Hub does not know who you are: set HF_TOKEN to a token with write access, or run  hf auth login."
    if status == 403:
        return f"your Hub token may not write to {repo}: use a token with write access to that owner, or another owner."
    if status is not None:
        return f"the Hub refused {repo} (HTTP {status}); nothing or only a part was sent, run the same command again."
    words = ("Connect", "Timeout", "Network", "Offline", "Resolution", "SSL", "Proxy", "Transport")
    if any(word in name for word in words) or isinstance(error, OSError):
        return f"the Hub cannot be reached ({name}): check the network and run the same command again."
    raise error
