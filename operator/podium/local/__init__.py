"""A cluster and a Conductor on one machine: for `podium dev`, the demo, the tests, and users.

    from pathlib import Path
    from podium.local import Conductor, ControlPlane

    with ControlPlane.start(Path("/tmp/a/cluster")) as cluster:       # about 4 s once all is built
        cluster.kubeconfig      # Path of an admin kubeconfig: one context, `podium-local`
        cluster.kubectl         # Path of a kubectl of the same version
        cluster.run("apply", "--server-side", "-f", "crds")            # runs it, returns its stdout
        cluster.kill("kube-apiserver"); cluster.restart("kube-apiserver")

    with ControlPlane.start(Path("/tmp/a/cluster"), node=True) as cluster:     # Pods run; Linux, as root
        cluster.node.load_image(Path("worker.tar"))                    # a file of `docker save`
        cluster.node.expose(conductor.url)                             # the same, at an address for Pods too

    with Conductor.start(                                             # about 6 s once all is downloaded
        Path("/tmp/a/conductor"),
        notice_url="http://127.0.0.1:18080/notices",                  # it POSTs to …/workflow and …/task
        notice_token="secret",                                        # with `Authorization: Bearer secret`
    ) as conductor:
        conductor.url           # "http://127.0.0.1:PORT/api"
        conductor.kill()        # as a crash would; conductor.resume() brings it back, same port, same data
        conductor.restart()     # politely
        conductor.signal(signal.SIGSTOP)                              # accepts connections, never answers

Both are blocking calls (use `asyncio.to_thread`, from any thread), independent of each other (start them at
once), take a `progress=` and raise `LocalError` with a message for people. What they start ends with the
`with` block, or when this process ends, even by `kill -9`. `free_port()` gives a port for a server of one's
own. `python -m podium.local prepare` builds and downloads beforehand.
"""

from podium.local.conductor import Conductor
from podium.local.control_plane import ControlPlane
from podium.local.errors import LocalError, MissingPrerequisites
from podium.local.services import free_port

__all__ = ["Conductor", "ControlPlane", "LocalError", "MissingPrerequisites", "free_port"]
