"""The steps of a batch, in the order in which it goes through them."""

from __future__ import annotations

from openaibatching.server.pipeline.cleanup import clean_one
from openaibatching.server.pipeline.collect import collect_one
from openaibatching.server.pipeline.form import form_some
from openaibatching.server.pipeline.refused import refused_one
from openaibatching.server.pipeline.submit import create_one, upload_one
from openaibatching.server.pipeline.watch import watch_one
from openaibatching.server.pipeline.worker import QUEUED, Step

STEPS = (
    Step("form", form_some, (QUEUED,)),
    Step("upload", upload_one, ("claimed", "uploading"), copies=2),
    Step("create", create_one, ("uploaded", "creating"), copies=2),
    Step("watch", watch_one, ("submitted",), copies=2),
    Step("refused", refused_one, ("refused",)),
    Step("collect", collect_one, ("ended",), copies=2),
    Step("cleanup", clean_one, ("collected",)),
)
