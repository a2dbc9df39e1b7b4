"""Recorded and live sessions: how hosts send recordings, how people ask for them.

host                                                    auth
 | -- UploadBegin(sid, size, digest, facts) --------->  |
 | <-- UploadState(received) -------------------------  |   0, or where a cut upload goes on
 | -- UploadPart(sid, at, data, digest) ------------->  |   whole lines, one part after the other
 | <-- UploadState(received) -------------------------  |
 | -- UploadEnd(sid) -------------------------------->  |
 | <-- UploadState(received, durable=True) -----------  |   only now may the host forget its own

A part that auth has already, or that begins beyond what it has, changes nothing: the answer says
where to go on. `durable` in answer to a begin or an end means that auth has it all, from before.
Nothing is compressed, so nothing can swell.
"""

from teleport_lite.proto.codec import Message, Statement

# What a part may hold; in base64 it fits into the largest body that auth reads.
MAX_PART = 640 * 1024


class RecordingFacts(Statement, frozen=True):
    """What the host says of the session. Which host it is says its certificate."""

    user: str
    login: str
    started: float  # Unix seconds
    ended: float
    complete: bool
    command: str = ""  # a login shell


class UploadBegin(Message, frozen=True):
    """`size` and `digest` say what will have been sent in the end; auth counts for itself."""

    sid: str
    size: int  # bytes of the whole recording
    digest: str  # SHA-256 of the whole, in hex
    facts: RecordingFacts


class UploadPart(Message, frozen=True):
    sid: str
    at: int  # bytes of the recording before this part
    data: bytes  # base64 in JSON; ends with a line feed
    digest: str  # SHA-256 of `data`, in hex


class UploadEnd(Message, frozen=True):
    sid: str


class UploadState(Statement, frozen=True):
    received: int  # bytes
    durable: bool = False


class RecordingList(Message, frozen=True):
    """Times are RFC 3339; "" is no bound. `after` is the sid that the page before ended with."""

    since: str = ""
    until: str = ""
    user: str = ""
    search: str = ""  # each word has to be in a name, a command or an id
    after: str = ""
    limit: int = 50


class RecordingRead(Message, frozen=True):
    """`at` is 0, then `next` of the answer before."""

    sid: str
    at: int = 0


class RecordingRemove(Message, frozen=True):
    sid: str


class SessionJoin(Message, frozen=True):
    sid: str
    mode: str = "observer"
