"""What is left of a broken text: whole records out of what is no JSON any more. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import orjson

from worker.ingest.tally import Tally
from worker.ingest.wrappers import Items, Place, items, no_constant, records

MOST_RESYNCS = 1_000
"""Failed attempts at finding the next whole record in broken JSON."""
MOST_REREADS = 8
"""How many times a broken text's length these attempts may read in all, so that no file costs much more than its reading."""
_NEXT_OBJECT = re.compile(r"[\[,]\s*(?=\{)")


def salvaged(data: bytes | bytearray, complaint: str, tally: Tally, *, whole_documents: bool = True) -> Iterator[Items]:
    """Whole records out of broken JSON: parse on from every place where a list's next object may begin.

    `whole_documents` says that the text is the whole file: then several documents one after the other are no fault.
    """
    text = data.decode(errors="replace")
    decoder = json.JSONDecoder(parse_constant=no_constant)
    found = failures = reread = 0
    position = len(text) - len(text.lstrip(", \r\n\t"))
    while position < len(text) and failures < MOST_RESYNCS and reread <= MOST_REREADS * len(text):
        try:
            document, end = decoder.raw_decode(text, position)
            # Parts of a broken record are no records and no news: the file's one fault stands for them.
            whole = orjson.loads(json.dumps(document, ensure_ascii=False).encode(errors="replace"))
        except (ValueError, RecursionError) as error:
            failures += 1
            # An unterminated string was read to the end of the text, whatever the error's position says.
            reached = error.pos if isinstance(error, json.JSONDecodeError) and "Unterminated" not in error.msg else len(text)
            reread += max(reached - position, 0)
            following = _NEXT_OBJECT.search(text, position)
            if following is None:
                break
            position = following.end()
            continue
        if isinstance(whole, dict | list):
            unwrapped = items(whole, "", Tally())
            events = [event for item in unwrapped.values for _, event in records(item, Place("", 0, None), Tally())]
            if events:
                yield Items("salvaged ", events, found + 1)
            found += len(events)
        position = end
        while (character := text[position : position + 1]) and character in ", \r\n\t":
            position += 1
    # A truncated or damaged gzip explains it by itself.
    if not tally.has("truncated-gzip", "corrupt-gzip") and (not whole_documents or failures or position < len(text) or "\ufffd" in text):
        tally.fault("invalid-json", f"{complaint}; {found} whole records could be read all the same")
