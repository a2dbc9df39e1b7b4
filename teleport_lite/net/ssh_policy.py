"""What we speak, and how much of it: one page for reviewers and for ssh-audit.

tests/node/ssh-audit-policy holds the same list; a test has ssh-audit compare them.
"""

# No software version: it helps only those who look for one with a known hole.
BANNER = "teleport-lite"

# All of them are strict-kex safe: no CBC, no ChaCha20-Poly1305 (CVE-2023-48795).
KEX = (
    "mlkem768x25519-sha256",
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
# Of a jump host: each is a socket, in a process that may have 64.
MAX_JUMPS = 32
WINDOW = 2 << 20
# What a client may have us keep beyond its window before it is clearly not playing by it.
WINDOW_SLACK = 256 * 1024
