"""The compiled build: the modules that a request passes through, made native by mypyc from the very same source.

Everything works without it. `TOLLGATE_COMPILE=1` turns it on (`make compile`, the image, `make bench`); it needs mypy,
a C compiler and Python's headers. A module belongs here if a request runs through it; what mypyc cannot compile stays
out: asynchronous generators, classes that extend built-in types, weakly referable data classes; and wire/relay, whose
return out of a `try` with an awaiting `finally` loses a cancellation there.
"""

import os

from setuptools import setup

COMPILED = """
core/access core/accounts core/breaking core/canonical core/counts core/drawing core/excerpt core/exchange core/ids
core/obligations core/pipeline core/reasons core/records core/redaction core/settlement core/sse
stages/attempts stages/breaker stages/capture stages/credentials stages/decide stages/forward stages/fulfil
stages/identify stages/kept stages/ledger stages/meter stages/record stages/scopes stages/verify
wire/answers wire/asgi wire/connection wire/crowd wire/cycle wire/door wire/field_names wire/forwarded wire/head
wire/headers wire/http1 wire/http1_answer wire/http1_chunked wire/http1_connection wire/http1_head wire/lines
wire/outgoing wire/ration wire/streams wire/target wire/upstream wire/ways
log/clerk log/committer log/entry log/integrator log/journal log/remote log/tiles log/tlog log/writer
ledger/addresses ledger/breakers ledger/budgets ledger/callers ledger/counters ledger/estimates ledger/growth
ledger/held ledger/known ledger/ledger ledger/limits ledger/ordinary ledger/periods ledger/price_rows ledger/prices
ledger/rates ledger/retrying ledger/standings
protocols/jsonrpc protocols/mcp protocols/mcp_answers protocols/mcp_headers protocols/mcp_judge protocols/mcp_methods
protocols/mcp_pending protocols/messages
identity/bearer identity/caller
control/recent
pdp/answer pdp/compiled pdp/embedded pdp/reads
trust/blocks trust/callers trust/card_check trust/learning trust/pins
stores/facets stores/following stores/openings stores/portions stores/records stores/redis_counters
stores/redis_durably stores/redis_flying stores/redis_leases stores/redis_phrases stores/redis_truth stores/redis_wire
stores/redis_words stores/settlements
"""


def modules() -> list:
    if os.environ.get("TOLLGATE_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    paths = [f"gateway/{name}.py" for name in COMPILED.split()]
    return mypycify([*paths, "--strict", "--no-warn-unused-ignores"], opt_level="2", debug_level="0", multi_file=True)


setup(ext_modules=modules())
