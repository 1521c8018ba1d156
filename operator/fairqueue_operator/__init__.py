"""What fairqueue does on Kubernetes: the injector puts the proxy into pods, the operator brings it its document.

`injection` is pure: a pod goes in, a patch or a named reason comes out. Only `cluster` speaks to the API server. The
proxy imports nothing of this package.
"""
