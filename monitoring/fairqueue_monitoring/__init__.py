"""What watches fairqueue: recording rules, alerts, the dashboard, and the pages about them, made of code.

`python -m fairqueue_monitoring` writes all of it: below `manifests` the rules, the component and the dashboard, below
`docs` the pages of metrics and alerts. Nothing of it runs beside a proxy.
"""
