"""Bring an interrupted run in order from its journal. Never touches the instrument.

Exposures whose end nobody saw are charged in full and marked unknown; what the guardian did is
taken into the journal; the run file is compared with the journal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import ValidationError

from controller import events as e
from controller.errors import StoreError
from controller.governor import unknown
from controller.journal import Journal
from controller.rundir import RunFolder, RunFolderError, manifest_sha256
from controller.store import reconcile


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found and put in order."""

    unknown: tuple[str, ...]
    """Exposures charged in full because nobody saw their end."""
    unjournalled: tuple[str, ...]
    """Sub-scans whose frames are in the run file, though the journal does not say so."""
    guardian_parked: bool


def recover(folder: RunFolder, journal: Journal) -> Recovery:
    """Put an interrupted run's journal in order.

    Raises
    ------
    RunFolderError
        If the manifest is not the one the journal was begun with.
    StoreError
        If the run file lacks frames the journal says it has.
    """
    state = journal.state
    if state.manifest_sha256 != manifest_sha256(folder):
        raise RunFolderError(
            f"{folder.manifest} was changed since the run began: restore it from a copy"
        )
    left = tuple(state.intents)
    for intent in list(state.intents.values()):
        journal.append(unknown(intent))
    for suggestion_id in list(state.pending):
        journal.append(e.SuggestionDropped(id=suggestion_id, why="the controller had ended"))
    stored = _take_in_stored(folder, journal)
    return Recovery(left, stored, _take_in_guardian(folder, journal))


def _take_in_stored(folder: RunFolder, journal: Journal) -> tuple[str, ...]:
    """Journal frames that were flushed just before the controller died."""
    from controller.store_read import list_stored

    if not (folder.data.exists() or folder.data_part.exists()):
        told = [outcome.id for outcome in journal.state.outcomes.values() if outcome.stored]
        if told:
            raise StoreError(f"{folder.path}: run.nxs is missing, with {len(told)} sub-scans")
        return ()
    found = set(reconcile(folder, journal.state))
    taken = []
    for each in list_stored(folder):
        key = each.sub_scan.id
        if key in found and key in journal.state.outcomes:
            datasets = {name: path for name, (path, _) in each.rows.items()}
            indices = {name: max(row, 0) for name, (_, row) in each.rows.items()}
            journal.append(e.Stored(id=key, datasets=datasets, indices=indices, nbytes=0))
            taken.append(key)
    return tuple(taken)


def _take_in_guardian(folder: RunFolder, journal: Journal) -> bool:
    """Journal what the guardian wrote down, once."""
    try:
        report = e.Parked.model_validate(json.loads(folder.guardian.read_text()))
    except FileNotFoundError:
        return False
    except (ValueError, ValidationError) as error:
        journal.append(e.Warned(what=f"the guardian's report can't be read: {error}"))
        return False
    journal.append(report)
    folder.guardian.replace(folder.guardian.with_suffix(".taken.json"))
    return True
