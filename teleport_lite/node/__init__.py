"""The node role: opens shells for people with a certificate. One family of processes a visitor.

    daemon --sockets--> zygote --fork--> monitor (root) --fork--> worker (nobody): paramiko
                          |                 |                       |
                          +--> signer <-----+--fork--> broker (the login user): shells
                               (the host key)

Read in this order: zygote, monitor, worker, broker; signer is one screen by itself.
docs/architecture.md tells why there are so many.
"""
