"""The forms `tctl auth sign` writes. Apart from `parcel.py`, which brings cryptography along."""

from enum import StrEnum


class Shape(StrEnum):
    FILE = "file"  # everything in one: tctl -i, ssh -i
    OPENSSH = "openssh"  # NAME and NAME-cert.pub
    TLS = "tls"  # NAME.key, NAME.crt and NAME.cas
