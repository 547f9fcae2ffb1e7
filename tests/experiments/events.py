"""Reads the event files of TensorBoard."""

import struct
from collections import defaultdict

from tensorboardX.proto.event_pb2 import Event


def points(folder) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of each curve in the one event file of a folder."""
    (path,) = (path for path in folder.iterdir() if path.name.startswith("events.out.tfevents."))
    content, found = path.read_bytes(), defaultdict(list)
    while content:
        (size,) = struct.unpack("Q", content[:8])
        # A record is its length, a checksum of that, the event, and a checksum of the event.
        event, content = Event.FromString(content[12 : 12 + size]), content[16 + size :]
        for value in event.summary.value:
            found[value.tag].append((event.step, value.simple_value))
    return dict(found)
