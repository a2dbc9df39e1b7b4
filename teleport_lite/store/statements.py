"""What the store says to SQL, and what each secret is sealed for."""

ADD_TOKEN = """
INSERT INTO tokens (name, roles, once, expires_at, dies_at, document, sealed)
VALUES (:name, :roles, :once, :expires_at, :dies_at, :document, :sealed)
ON CONFLICT (name) DO UPDATE SET roles = excluded.roles, once = excluded.once,
    expires_at = excluded.expires_at, dies_at = excluded.dies_at, dead = 0, spent_at = NULL,
    spent_by = NULL, document = excluded.document, sealed = excluded.sealed
WHERE tokens.expires_at IS NOT NULL
  AND (tokens.expires_at <= :now OR (tokens.dead = 1 AND tokens.dies_at = tokens.expires_at))
"""
# The condition and the consequence in one statement: two that read first and write later both win.
SPEND_TOKEN = """
UPDATE tokens SET
    dies_at = CASE WHEN once = 1 AND spent_at IS NULL AND dies_at > :window THEN :window
              ELSE dies_at END,
    spent_by = CASE WHEN once = 1 AND spent_at IS NULL THEN :key ELSE spent_by END,
    spent_at = CASE WHEN once = 1 AND spent_at IS NULL THEN :now ELSE spent_at END
WHERE name = :name AND dead = 0 AND dies_at > :now
  AND (once = 0 OR spent_at IS NULL OR spent_by = :key)
"""
# One more role that the token has to cover. With its commas it is never empty.
COVERS = " AND replace(roles, :role{number}, '') <> roles"
# Two answers to one request, of which the first was slow, are not two hosts.
ADD_HOST = """
INSERT INTO hosts (id, name, ssh_key, joined_at, document)
SELECT :id, :name, :ssh_key, :joined_at, :document
WHERE NOT EXISTS (SELECT 1 FROM hosts WHERE id = :id OR ssh_key = :ssh_key)
"""
PUT_HOST = """
INSERT INTO hosts (id, name, ssh_key, joined_at, document) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, ssh_key = excluded.ssh_key,
    joined_at = excluded.joined_at, document = excluded.document
"""
PUT_REPORT = """
INSERT INTO reports (host_id, document) SELECT id, ? FROM hosts WHERE id = ?
ON CONFLICT (host_id) DO UPDATE SET document = excluded.document
"""
PUT_LOCK = """
INSERT INTO locks (id, expires_at, document) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, document = excluded.document
"""
# Each of the three is a row only where there is a user.
PUT_PASSWORD = """
INSERT INTO passwords ("user", document, sealed) SELECT name, ?, ? FROM users WHERE name = ?
ON CONFLICT ("user") DO UPDATE SET document = excluded.document, sealed = excluded.sealed
"""
PUT_INVITE = """
INSERT INTO invites ("user", name, expires_at, document, sealed)
SELECT users.name, :name, :expires_at, :document, :sealed FROM users WHERE users.name = :user
ON CONFLICT ("user") DO UPDATE SET name = excluded.name, expires_at = excluded.expires_at,
    document = excluded.document, sealed = excluded.sealed
"""
NOTE_LOGIN = """
INSERT INTO login_sources ("user", source, last_at) SELECT name, ?, ? FROM users WHERE name = ?
ON CONFLICT ("user", source) DO UPDATE SET last_at = excluded.last_at
"""
FORGET_LOGINS = """
DELETE FROM login_sources WHERE "user" = :user AND source NOT IN (
    SELECT source FROM login_sources WHERE "user" = :user
    ORDER BY last_at DESC, source DESC LIMIT :kept
)
"""
# What is over begins anew; what is full stays as it is.
COUNT_GUESS = """
INSERT INTO guesses (name, source, count, last_at, stranger)
VALUES (:name, :source, 1, :now, :stranger)
ON CONFLICT (name, source) DO UPDATE SET last_at = excluded.last_at,
    stranger = excluded.stranger, count = CASE
        WHEN guesses.last_at > :oldest AND guesses.last_at < :newest THEN guesses.count + 1
        ELSE 1 END
WHERE guesses.count < :most OR guesses.last_at <= :oldest OR guesses.last_at >= :newest
"""
END_GUESSES = """
DELETE FROM guesses WHERE name = :name AND source = :source
  AND (count < :most OR last_at <= :oldest OR last_at >= :newest)
"""
FORGET_GUESSES = """
DELETE FROM guesses WHERE last_at <= :oldest OR last_at >= :newest OR stranger = 1 AND last_at <= (
    SELECT last_at FROM guesses WHERE stranger = 1 ORDER BY last_at DESC LIMIT 1 OFFSET :kept
)
"""
ADD_RECORDING = """
INSERT INTO recordings (sid, "user", started_at, stored_at, stored, document)
VALUES (:sid, :user, :started_at, :stored_at, :stored, :document) ON CONFLICT DO NOTHING
"""
SWEEP_TOKENS = """
DELETE FROM tokens WHERE expires_at IS NOT NULL
  AND (expires_at <= :now OR (dead = 1 AND dies_at = expires_at))
"""

ADD_CA = """
INSERT INTO cas (type, id, document, sealed) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
CHANGE_CA = "UPDATE cas SET document = ? WHERE type = ? AND id = ?"
ADD_ROTATION = """
INSERT INTO rotations (type, serial, document) VALUES (:type, :serial, :document)
ON CONFLICT DO NOTHING
"""
CHANGE_ROTATION = """
UPDATE rotations SET serial = :serial, document = :document WHERE type = :type AND serial = :after
"""
PUT_TRUSTED = """
INSERT INTO trusted (name, document, sealed) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET document = excluded.document, sealed = excluded.sealed
"""
# An empty holder has let it go. The fence grows when the holder changes, and never shrinks.
TAKE_LEASE = """
INSERT INTO leases (name, holder, fence, ends_at) VALUES (:name, :holder, 1, :until)
ON CONFLICT (name) DO UPDATE SET
    fence = CASE WHEN leases.holder = excluded.holder THEN leases.fence ELSE leases.fence + 1 END,
    holder = excluded.holder, ends_at = excluded.ends_at
WHERE leases.holder IN ('', excluded.holder) OR leases.ends_at <= :now
"""
DROP_LEASE = "UPDATE leases SET holder = '' WHERE name = ? AND fence = ? AND holder <> ''"


def token_purpose(name: str) -> str:
    """What a sealed token is sealed for. Naming the row keeps one from standing in for another."""
    return f"token/{name}"


def ca_purpose(type: str, id: str) -> str:
    return f"ca/{type}/{id}"


def password_purpose(user: str) -> str:
    return f"password/{user}"


def trusted_purpose(name: str) -> str:
    return f"trusted/{name}"


def invite_purpose(name: str) -> str:
    return f"invite/{name}"


def add(table: str, key: str, value: str) -> str:
    return f"INSERT INTO {table} ({key}, {value}) VALUES (?, ?) ON CONFLICT DO NOTHING"  # noqa: S608  # names of ours


def put(table: str, key: str, value: str) -> str:
    return (
        f"INSERT INTO {table} ({key}, {value}) VALUES (?, ?) "  # noqa: S608  # names of ours
        f"ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}"
    )
