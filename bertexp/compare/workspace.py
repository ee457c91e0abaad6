"""The dashboard as code: a W&B workspace that shows sweeps the way they are compared here."""

from __future__ import annotations

import importlib.util

from bertexp.tracking.base import first_line
from bertexp.validation import UserError


def save_workspace(project: str, entity: str | None) -> str:
    """Build the workspace of a project and save it on W&B's server; returns its address.

    Args:
        project: the W&B project.
        entity: the W&B user or team; None: the default one of the key.

    Raises:
        UserError: the extra is missing, nobody is logged in, or W&B does not answer or refuses.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError("--workspace: the package is missing, pip install 'bertexp[workspace]'.")
    import wandb

    from bertexp.compare.panels import build_workspace

    try:
        wandb.setup(settings=wandb.Settings(silent=True))
        if wandb.login(prompt=False, verify=True):
            owner = entity or wandb.Api().default_entity or ""
            workspace = build_workspace(owner, project)
            workspace.save()
            return str(workspace.url)
    except Exception as error:
        raise UserError(f"--workspace: {first_line(error)}.") from error
    raise UserError("--workspace: W&B has no API key. Log in with `wandb login` or WANDB_API_KEY.")
