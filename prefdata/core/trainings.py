"""Training runs as rows of the store: what was trained on which data, and what came out."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from prefdata.core.ids import canonical_json
from prefdata.core.store import Store


def record(store: Store, *, objective: str, path: str, config: Mapping[str, Any], data_hash: str, metrics: Mapping[str, Any]) -> bool:
    """Add one finished training; False where the same one is there already.

    Args:
        store: an existing or new store.
        objective: what was trained for.
        path: the folder of the trained model.
        config: parameters and settings, the model's fingerprint among them, as JSON values.
        data_hash: fingerprint of the export.
        metrics: first and last measurement, rows and steps, as JSON values.
    """
    values = [objective, path, canonical_json(dict(config)), data_hash, canonical_json(dict(metrics))]
    name = str(uuid.UUID(bytes=hashlib.sha256(canonical_json(values).encode()).digest()[:16]))
    with store.write() as db:
        if db.execute("SELECT 1 FROM trainings WHERE id = ?", [name]).fetchone():
            return False
        db.execute("INSERT INTO trainings VALUES (?, ?, ?, ?, ?, ?, now()::TIMESTAMP)", [name, *values])
    return True
