"""What we speak, and how much of it: one page for reviewers and for ssh-audit.

tests/node/ssh-audit-policy holds the same list; a test has ssh-audit compare them.
"""

# OpenSSH's clients use its extensions (eow@openssh.com, without which `ssh host yes | head` never
# ends, and no-more-sessions@openssh.com) only with servers whose name begins with "OpenSSH". No
# software version: it helps only those who look for one with a known hole, and scanners would
# find those of an OpenSSH that is not here.
BANNER = "OpenSSH_teleport-lite"

# All of them are strict-kex safe: no CBC, no ChaCha20-Poly1305 (CVE-2023-48795).
KEX = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group16-sha512",
)
CIPHERS = (
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
MACS = ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com")
# The host key, plain and with its certificate; clients choose.
HOST_KEY = "ssh-ed25519"
HOST_CERT = "ssh-ed25519-cert-v01@openssh.com"
# Told in server-sig-algs (RFC 8308): without it clients sign RSA certificates with SHA-1.
USER_KEYS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "rsa-sha2-512",
    "rsa-sha2-256",
)

# RFC 4253 §4.2: 255 characters with CR and LF.
MAX_BANNER = 255
# A KEXINIT or a certificate of 32 KiB fits; more is no login.
MAX_PACKET_BEFORE_LOGIN = 64 * 1024
# OpenSSH's PACKET_MAX_SIZE. We ask for packets of 32 KiB.
MAX_PACKET = 256 * 1024
# RFC 4253 §9 recommends new keys after a gigabyte.
REKEY_BYTES = 1 << 30
REKEY_PACKETS = 1 << 30
# Linux takes no longer argument (MAX_ARG_STRLEN, 32 pages, with its NUL).
MAX_COMMAND = 128 * 1024 - 1
# OpenSSH's MaxSessions.
MAX_SESSIONS = 10
# Connections that are forwarded, both ways, agents and X11 among them: each is a socket.
MAX_FORWARDS = 256
# Of those, how many may still be on their way to somewhere.
MAX_DIALS = 64
# Places to listen at for a client: ports, sockets, displays.
MAX_LISTENERS = 32
# Of a jump host: each is a socket, in a process that may have 64.
MAX_JUMPS = 32
# Of any kind, with those that the client has not confirmed to be closed.
MAX_CHANNELS = 1024
# What one channel may send before we have passed on some of it; a fast line needs that much.
WINDOW = 4 << 20
# Where so many channels are open, the next ones have less: together they must fit into the memory
# of a worker, even if nobody takes a byte of what the client sends.
FEW_CHANNELS = 16
SMALL_WINDOW = 256 << 10
# Data in one packet, as OpenSSH has it (RFC 4253 §6.1 wants 32 KiB at least).
DATA = 32 * 1024
# A client that takes less in one packet is only out to make us work.
LEAST_DATA = 256
# What a client may have us keep beyond its window before it is clearly not playing by it.
WINDOW_SLACK = 256 * 1024
# A client that is silent that long is asked for a sign of life (ClientAliveInterval) ... The kernel
# looks after dead lines much sooner (`ssh_listen.KEEPALIVE`), and costs nothing while all is well.
KEEPALIVE_SECONDS = 120.0
# ... and has gone if it does not answer so many times.
KEEPALIVE_MISSED = 3
# What may wait for the end of a key exchange: a client that never ends it must not pile it up.
MAX_HELD = 1 << 20
# What a client may send after we have asked for new keys, before it takes part in that.
REKEY_GRACE = 256 << 20
