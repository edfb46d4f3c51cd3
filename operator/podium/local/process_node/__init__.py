"""A stand-in for a node: the pods of WorkerPools run as processes of this machine, without images.

For the control plane of `podium.local`, which has no kubelet: quick tests, `podium dev`, the demo.

    from podium.local.process_node.node import ProcessNode

    async with ProcessNode(cluster.kubeconfig, Path("/tmp/a/node")) as node:   # a Node
        node.identify("studio", "media-7d…")       # the process of a pod, to kill it as a crash would
        node.log_file("studio", "media-7d…")       # what it writes

What is as on a real node: binding, environment (values, fields, Secrets, ConfigMaps, `$(VAR)`), an address
for each pod, probes by HTTP, restarts with a back-off, statuses, SIGTERM, the pod's grace period, SIGKILL.

What is not:

- **No images.** `command` is looked up on the PATH of this Python first. A container without a command runs
  `podium-worker`, as Podium's own image does. An image that begins with `missing/` cannot be pulled, for
  tests.
- **No isolation.** The process has this machine's files, users, memory and network. Limits and security
  contexts mean nothing.
- **One network for all.** Each pod has an address in 127.0.0.0/8, but must listen there and not on all
  addresses: `0.0.0.0` in command, arguments and environment is replaced by the pod's address.
- **No mounts.** emptyDir, Secret and ConfigMap volumes are folders; a path that begins with the mount path,
  in command, arguments and environment, is replaced by that of the folder. The token of the service account
  is in a kubeconfig, named by `KUBECONFIG` and `WORKER_KUBECONFIG`.
- **Only the first container** of a pod; no init containers, no hooks, no probes but `httpGet`.
- **Quicker back-off**: restarts wait 1, 2, 4 … 30 s, where a kubelet begins with 10 s and goes on to 5 min.
"""
