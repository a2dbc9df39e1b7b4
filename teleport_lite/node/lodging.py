"""Where a visitor lives while logged in: the broker, which is the login user, and what it knows."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace

from teleport_lite.access.traits import expand
from teleport_lite.agent.heard import Silence
from teleport_lite.ambient import Clock
from teleport_lite.errors import Denied
from teleport_lite.node.account import Account, become, find_account, set_login_uid
from teleport_lite.node.broker import Broker, Guest
from teleport_lite.node.confine import no_terminal, secretive
from teleport_lite.node.family import Family
from teleport_lite.node.gate import Welcome, too_silent
from teleport_lite.node.host_users import HostUsers
from teleport_lite.node.keeper import Errand, Opened, keep
from teleport_lite.node.notices import nologin
from teleport_lite.node.permit import HostRules, Rights
from teleport_lite.node.processes import kill_descendants
from teleport_lite.node.settings import Settings
from teleport_lite.node.surroundings import Surroundings, login_umask
from teleport_lite.node.utmp import Records
from teleport_lite.node.wire import Host, Link, SessionEnded, SessionStarted


class Lodging:
    """Belongs to the monitor, which is root. Nothing here touches a path of the user's."""

    def __init__(
        self,
        welcome: Welcome,
        *,
        host: Host,
        peer: tuple[str, int],
        local: tuple[str, int],
        settings: Settings,
        clock: Clock,
        note: Callable[[str], None],
    ) -> None:
        self.welcome = welcome  # once it is open, with the account
        self._host, self._settings = host, settings
        self._peer, self._local, self._clock = peer, local, clock
        self._host_users = HostUsers(note=note)
        self._records: Records | None = None
        self._keeper: Link | None = None
        self._keeper_pid = 0
        self._last_login = ""

    def open(self, family: Family) -> tuple[Link, Link]:
        """Start the broker. Returns our line to it, and the worker's. Raises an Error if this
        account can not be had right now; its message is for the visitor."""
        try:
            account = self._account()
            self.welcome = replace(self.welcome, account=account)
            self._look_at_nologin(account)
            self._records = Records(
                login=account.name, uid=account.uid, address=self._peer[0], clock=self._clock
            )
            self._last_login = self._records.last_login()
            return self._move_in(account, family)
        except BaseException:
            self._let_go()
            raise

    def started(self, session: SessionStarted) -> None:
        """A shell has started, as the broker tells it."""
        if session.pty and self._records is not None:
            self._records.started(session.sid, session.tty, session.pid)

    def ended(self, session: SessionEnded) -> None:
        """A shell has ended, as the broker tells it, or was still running at the end of all."""
        if self._records is not None:
            self._records.ended(session.sid)

    def end(self, family: Family) -> None:
        """No shell is needed any more: the broker has to go, and PAM's modules hear of it."""
        if self._keeper is None:
            family.end("broker")
        else:
            self._keeper.close()
            self._end_keeper(family, self._settings.pam_time)

    def close(self, family: Family) -> None:
        """The connection is over, and so is everybody in the family who has something to do."""
        if self._host_users.drops():
            family.sweep()  # an account that goes leaves nothing running
        self._let_go()

    def _let_go(self) -> None:
        if self._records is not None:
            self._records.close()
        self._host_users.leave()

    # --- the account

    def _account(self) -> Account:
        """The one there is, or the one that the roles want made. It is held until `close`."""
        visitor = self.welcome.visitor
        if os.geteuid() == 0 and self._settings.create_host_users:
            self._host_users.enter(visitor.login, self.welcome.host_user)
        # The gate has seen it before it was held: another one may have its name by now, and
        # somebody else its uid.
        return find_account(visitor.login, self._clock.now())

    def _look_at_nologin(self, account: Account) -> None:
        """As sshd: with PAM it is for a module to say, which an administrator may take out."""
        text = None if account.uid == 0 or self._settings.pam_service else nologin()
        if text is not None:
            raise Denied(text, log="only root may log in while /etc/nologin exists")

    # --- the processes

    def _move_in(self, account: Account, family: Family) -> tuple[Link, Link]:
        for_worker, worker_side = Link.pair()
        ours, monitor_side = Link.pair()
        theirs = (worker_side, monitor_side)
        try:
            if self._settings.pam_service:
                self._start_keeper(account, theirs, family)
            else:
                body = self._body(account, theirs)
                family.start("broker", lambda: body(None, ""), [end.fileno() for end in theirs])
        except BaseException:
            ours.close()
            for_worker.close()
            raise
        finally:
            for end in theirs:
                end.close()
        return ours, for_worker

    def _start_keeper(self, account: Account, theirs: tuple[Link, Link], family: Family) -> None:
        """Raises Denied for an account that PAM refuses, and for modules that hang or crash."""
        ours, line = Link.pair()
        errand = Errand(
            title=f"{family.title}-broker",
            service=self._settings.pam_service,
            account=account,
            host=self._peer[0],
            variables=self._variables(),
            line=line,
            broker=self._body(account, theirs),
            theirs=theirs,
        )
        fds = [end.fileno() for end in (*theirs, line)]
        self._keeper_pid = family.start("pam", lambda: keep(errand), fds)
        line.close()
        ours.set_timeout(self._settings.pam_time)
        try:
            said = ours.receive(Opened)
        except EOFError as why:
            self._end_keeper(family, 0.0)
            ours.close()
            raise Denied("PAM does not answer on this host", log=f"PAM: {why}") from why
        if not said.ok:
            ours.close()
            self._end_keeper(family, self._settings.pam_time)
            raise Denied(said.reason or "this account is refused by the host", log=said.log)
        self._keeper = ours

    def _end_keeper(self, family: Family, patience: float) -> None:
        """A module that hangs goes, with what it has started."""
        if not family.wait("pam", patience):
            kill_descendants(self._keeper_pid)
            family.end("pam")

    def _variables(self) -> dict[str, str]:
        """For the modules. A template without a value gives nothing (as in roles)."""
        visitor = self.welcome.visitor
        found = {
            name: ",".join(expand((text,), visitor.traits))
            for name, text in self._settings.pam_environment
        }
        return found | {
            "TELEPORT_USERNAME": visitor.user,
            "TELEPORT_LOGIN": visitor.login,
            "TELEPORT_ROLES": " ".join(visitor.roles),
        }

    def _body(
        self, account: Account, theirs: tuple[Link, Link]
    ) -> Callable[[Mapping[str, str] | None, str], None]:
        """What the broker's process does, given PAM's variables (None: it was not asked) and
        its modules' words."""
        worker, monitor = theirs

        def body(modules: Mapping[str, str] | None, words: str) -> None:
            if modules is None:
                no_terminal()
                os.umask(login_umask())
                set_login_uid(account.uid)
            stale = self._stale()  # before there is no way to its file
            # Modules may have added groups, changed the umask and set limits.
            no_home = become(account, groups=modules is None)
            secretive()
            around = self._surroundings(account, modules, words, no_home)
            Broker(
                worker=worker,
                monitor=monitor,
                account=account,
                guest=self._guest(around, stale),
                hang_up_time=self._settings.hang_up_time,
            ).run()

        return body

    def _surroundings(
        self, account: Account, modules: Mapping[str, str] | None, words: str, no_home: str
    ) -> Surroundings:
        (ip, port), (local_ip, local_port) = self._peer, self._local
        welcome = self.welcome
        told = {
            "SSH_CLIENT": f"{ip} {port} {local_port}",
            "SSH_CONNECTION": f"{ip} {port} {local_ip} {local_port}",
            "SSH_TELEPORT_USER": welcome.visitor.user,
            "SSH_TELEPORT_CLUSTER_NAME": self._host.cluster,
            "SSH_TELEPORT_HOST_UUID": self._host.host_id,
        }
        if welcome.web_proxy:
            told["SSH_SESSION_WEBPROXY_ADDR"] = welcome.web_proxy
        return Surroundings(
            account=account,
            told=told,
            modules=modules,
            accept=self._settings.accept_env,
            user_file=self._settings.permit_user_env,
            notice=words,
            last_login=self._last_login,
            no_home=no_home,
        )

    def _stale(self) -> Callable[[], str]:
        if not self._settings.strict_locks:
            return lambda: ""
        silence = Silence(self._settings.data_dir, self._clock)
        return lambda: too_silent(silence.seconds())

    def _guest(self, around: Surroundings, stale: Callable[[], str]) -> Guest:
        welcome = self.welcome
        return Guest(
            rights=Rights(
                extensions=welcome.visitor.extensions,
                options=welcome.options,
                host=HostRules(
                    port_forwarding=self._settings.port_forwarding,
                    file_copy=self._settings.file_copy,
                    x11=self._settings.x11,
                ),
                stale=stale,
            ),
            force_command=welcome.force_command,
            around=around,
            displays=(self._settings.x11_first, self._settings.x11_last),
        )
