"""Labels through a published OpenFeature provider: each flag must be what `retag get` prints.

usage: ofrep.py URL TOKEN < lines of `retag get user/KEY -o ndjson`
"""

import json
import sys

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

VALUED = {"tier", "balance"}  # labels with values; all others are flags
url, token = sys.argv[1:]
headers = {"Authorization": f"Bearer {token}"}
api.set_provider(OFREPProvider(url, headers_factory=lambda: headers))
client = api.get_client()
checked, wrong, present = 0, 0, 0


def compare(what, found, expected):
    global checked, wrong
    checked += 1
    if found != expected:
        wrong += 1
        print(f"{what}: {found!r}, expected {expected!r}")


for line in sys.stdin:
    answer = json.loads(line)
    context = EvaluationContext(targeting_key=answer["key"])
    for label, about in answer["metadata"].items():
        carried = answer["labels"].get(label)
        what = f"user/{answer['key']} {label}"
        if label in VALUED:
            details = client.get_string_details(label, "none", context)
            expected = carried if carried is not None else "none"
        else:
            details = client.get_boolean_details(label, False, context)
            expected = carried is True
        compare(what, details.value, expected)
        reason = {"PRESENT": "TARGETING_MATCH", "ABSENT": "DEFAULT", "UNKNOWN_KEY": "DEFAULT"}
        compare(f"{what} reason", details.reason, reason.get(about["status"], "STALE"))
        compare(f"{what} rule", details.flag_metadata.get("rule"), about["rule"])
        present += carried is not None

details = client.get_boolean_details("no_such_label", True, EvaluationContext(targeting_key="1"))
compare("an unknown label", (details.value, str(details.error_code)), (True, "FLAG_NOT_FOUND"))
details = client.get_boolean_details("never_paid", True, EvaluationContext(targeting_key="one"))
compare("a key that is none", (details.value, str(details.error_code)), (True, "INVALID_CONTEXT"))
details = client.get_boolean_details("never_paid", True, EvaluationContext())
compare("no key", (details.value, str(details.error_code)), (True, "TARGETING_KEY_MISSING"))

print(f"OFREP: {checked} comparisons, {present} labels carried, {wrong} wrong")
sys.exit(1 if wrong or present == 0 else 0)
