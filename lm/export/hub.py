"""Upload of an exported folder to the Hugging Face Hub, with huggingface_hub."""

from pathlib import Path

from lm.errors import UserError

LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"


def check_hub(repo: str | None) -> None:
    """Check, before any work, that the package is there, the name is one, and there is a token."""
    try:
        from huggingface_hub import get_token
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id
    except ImportError as error:
        raise UserError("format=hub needs another package (huggingface_hub): pip install -e '.[hub]'") from error
    if not repo:
        raise UserError("format=hub given, but no repo: give repo=NAME or repo=OWNER/NAME.")
    try:
        validate_repo_id(str(repo))
    except HFValidationError as error:
        raise UserError(
            f"repo={repo} given, but it must be NAME or OWNER/NAME of letters, digits, -, _ and ."
        ) from error
    if not get_token():
        raise UserError(f"format=hub given, but you are not logged in: {LOG_IN}.")


def upload(folder: Path, repo: str, private: bool) -> str:
    """Create the repository unless it is there, upload the folder as one commit, and return the address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    # httpx's, or that of its successor: which one is known to huggingface_hub
    http_error: type[Exception] = HfHubHTTPError.__mro__[1]
    try:
        api = HfApi()
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message="Upload by scripts/export.py")
    except HfHubHTTPError as error:
        code = error.response.status_code
        advice = f": {LOG_IN}, with a token that may write there" if code in (401, 403) else ""
        raise UserError(f"The Hub has refused the upload to repo={repo} (HTTP {code}){advice}.") from error
    except ValueError as error:
        if "README.md" not in str(error):  # of which the Hub checks the header
            raise
        raise UserError(f"The Hub has refused the model card: give another license=. It says: {error}") from error
    except (OfflineModeIsEnabled, ConnectionError, http_error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"The Hub cannot be reached ({reason}): format=folder writes the same files here.") from error
    return str(address)
